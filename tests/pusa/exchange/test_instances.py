"""Which format is it; and do its photos fit the archive?"""

import json

import numpy as np
import pytest

from pusa.errors import UserError
from pusa.exchange import Given, check_instances, read_instances
from pusa.exchange.given import identity


def read(tmp_path, content):
    (tmp_path / "i.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return read_instances(str(tmp_path / "i.json"))


@pytest.mark.parametrize(("content", "found"), [
    ({"images": [], "annotations": []}, {}),  # COCO
    ({"images": [], "detection_categories": {"1": "animal"}, "info": {}}, {}),  # MegaDetector
    ({"images": [{"file": "a.jpg", "detections": []}]}, {"a.jpg": []}),  # a bare one
])  # fmt: skip
def test_formats_are_told_apart(tmp_path, content, found):
    assert read(tmp_path, content) == found


@pytest.mark.parametrize(("content", "message"), [
    ("{", "not valid JSON"),
    ("", "not valid JSON"),
    ([{"image_id": 1, "bbox": [1, 2, 3, 4]}], "found a list, as COCO results are"),
    ({"videos": [], "x": 1}, r"found the keys \['videos', 'x'\]"),
    ({"images": {}, "annotations": []}, "expected COCO"),
    ("3", "found int"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match="Cannot read"):
        read_instances(str(tmp_path / "none.json"))


@pytest.mark.parametrize(("given", "expected"), [
    (Given((1, 2, 3.5, 4)), [1, 2, 3.5, 4]),
    (Given((-1, -2, 300, 4)), [0, 0, 200, 4]),  # clipped to the photo
    (Given((0, 0, 1, 1), fractions=True), [0, 0, 200, 100]),  # the whole photo
    (Given((0.25, 0.5, 0.5, 1.001), fractions=True), [50, 50, 100, 100]),
])  # fmt: skip
def test_boxes_in_pixels(given, expected):
    box = given.box_in(200, 100)
    assert box.dtype == np.float32
    assert box.tolist() == expected


@pytest.mark.parametrize(("text", "name"), [
    ("KuFu001", "KuFu001"), (17, "17"), (0, "0"), (" x ", "x"),
    (None, None), ("", None), ("NA", None), ("unknown", None), ("Unidentified", None), ("nan", None),
])  # fmt: skip
def test_texts_that_name_no_individual(text, name):
    assert identity(text) == name


def test_comparison_with_the_archive():
    instances = {"a/1.jpg": [], "S\u00e4/2.jpg": [], "gone.jpg": []}
    absent, unlisted = check_instances(instances, ["a/1.jpg", "Sa\u0308/2.jpg", "new.jpg"], "i.json")
    assert "1 photo (gone.jpg) in i.json but not in the archive" in absent
    assert "1 photo (new.jpg) not in i.json" in unlisted
    assert check_instances({"1.jpg": []}, ["1.jpg"], "i.json") == []
    with pytest.raises(UserError, match=r"names none of the photos. The file has x/1.jpg, the archive 1.jpg"):
        check_instances({"x/1.jpg": []}, ["1.jpg"], "i.json")
