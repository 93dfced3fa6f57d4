"""MegaDetector results of all versions."""

import pytest

from pusa.errors import UserError
from pusa.exchange import megadetector

CATEGORIES = {"1": "animal", "2": "person", "3": "vehicle"}


def detection(conf=0.9, bbox=(0.1, 0.2, 0.3, 0.4), category="1"):
    return {"category": category, "conf": conf, "bbox": list(bbox)}


def content(*detections, **top):
    image = {"file": "a\\1.jpg", "detections": list(detections)}
    return {"info": {"format_version": "1.5"}, "detection_categories": CATEGORIES, "images": [image]} | top


def read(*detections, threshold=None, **top):
    return megadetector.read(content(*detections, **top), "md.json", threshold)["a/1.jpg"]


def test_boxes_are_fractions_and_backslashes_are_normalised():
    (found,) = read(detection(bbox=(0, 0, 1, 1), conf=1))
    assert (found.box, found.fractions, found.score, found.mask, found.identity) == (
        (0, 0, 1, 1),
        True,
        1.0,
        None,
        None,
    )


def test_failed_photos_are_left_out_and_empty_ones_stay():
    images = [
        {"file": "two.jpg", "detections": [detection(), detection()]},
        {"file": "none.jpg", "detections": []},
        {"file": "failed.jpg", "detections": None, "failure": "Image access failure"},
    ]
    found = megadetector.read(content(images=images), "md.json")
    assert {name: len(given) for name, given in found.items()} == {"two.jpg": 2, "none.jpg": 0}


@pytest.mark.parametrize("top", [
    {"info": {"format_version": 1.2}},  # a number, as old versions wrote it
    {"info": None},
    {"detection_categories": None},  # MegaDetector's own
    {"detection_categories": {"1": "seal", "2": "Person", "3": "vehicle"}},  # a detector for one species
])  # fmt: skip
def test_only_animals_of_any_version(top):
    assert len(read(detection(), detection(category="2"), detection(category="3"), **top)) == 1


@pytest.mark.parametrize(("threshold", "info", "scores"), [
    (None, {}, [0.2, 0.9]),  # 0.2 where nobody says more
    (None, {"detector_metadata": {"typical_detection_threshold": 0.8}}, [0.9]),  # the file's
    (0.05, {"detector_metadata": {"typical_detection_threshold": 0.8}}, [0.1, 0.2, 0.9]),  # the user's
    (0.0, {}, [0.0, 0.1, 0.2, 0.9]),
])  # fmt: skip
def test_thresholds(threshold, info, scores):
    found = read(*(detection(conf) for conf in (0.0, 0.1, 0.2, 0.9)), threshold=threshold, info=info)
    assert [g.score for g in found] == scores


@pytest.mark.parametrize(("bad", "message"), [
    (detection(conf=None), "score from 0 to 1"),
    (detection(conf="0.9"), "score from 0 to 1"),
    (detection(bbox=(10, 20, 30, 40)), "in fractions"),  # pixels
    (detection(bbox=(0.1, 0.2, 0, 0.4)), "size above 0"),
    (detection(bbox=(0.1, 0.2)), "expected a bbox"),
    (detection(category="9"), r"category out of \['1', '2', '3'\]"),
    ([0.1, 0.2, 0.3, 0.4, 0.9], "expected a category"),  # as of before format 1.0
])  # fmt: skip
def test_bad_detections_name_their_photo(bad, message):
    with pytest.raises(UserError, match=f"md.json, a/1.jpg.*{message}"):
        read(bad)


def test_bad_images():
    with pytest.raises(UserError, match="twice"):
        megadetector.read(content(images=[{"file": "a.jpg", "detections": []}] * 2), "md.json")
    with pytest.raises(UserError, match="expected images with a `file`"):
        megadetector.read(content(images=[{"detections": []}]), "md.json")
    with pytest.raises(UserError, match="list of detections"):
        megadetector.read(content(images=[{"file": "a.jpg", "detections": 3}]), "md.json")
