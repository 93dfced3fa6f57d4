"""Places on one's own animals: two photos of Anna, the second smaller and shifted; one of Bert, who has another."""

import cv2
import numpy as np
import pyarrow as pa
import pytest

from pusa import photos, records, truth
from pusa.embedding import matched
from pusa.embedding.matched import Shown, carried
from pusa.errors import UserError
from pusa.pattern.patches import SIZE
from pusa.records import Run

W, H = 480, 240  # of the animals, which fill their photos
SHRINK, SHIFT = 0.8, np.array([60.0, 30.0])  # from Anna's first photo to her second one
MIDDLES = np.array([(x, y) for x in (150, 240, 330) for y in (90, 150)], float)


def coat(seed):
    """Blotches of many sizes, (H, W) uint8."""
    noise = np.random.default_rng(seed).normal(size=(H, W)).astype(np.float32)
    blotches = sum(cv2.GaussianBlur(noise, (0, 0), s) * s for s in (2, 4, 8))
    return cv2.normalize(blotches, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)


def instance(photo, picture, middles=MIDDLES):
    """An animal whose pattern is what is light in the `picture`."""
    boxes = np.hstack([middles - SIZE / 2, middles + SIZE / 2])
    return records.new_instance(
        f"{photo}#0", crop_box=(0, 0, W, H), crop=photos.encode_jpeg(np.repeat(picture[..., None], 3, 2), 95),
        pattern=photos.encode_mask_png(picture > 140), patch_boxes=boxes.tolist(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pictures():
    anna = coat(0)
    again = cv2.warpAffine(anna, np.array([[SHRINK, 0, SHIFT[0]], [0, SHRINK, SHIFT[1]]]), (W, H))
    return {"1": anna, "2": again, "3": coat(1)}


@pytest.fixture
def run(pictures, tmp_path):
    rows = [
        {f.name: None for f in records.PHOTOS}
        | {"photo_id": n, "path": f"{n}.jpg", "sequence_id": n, "status": "ok", "instances": [instance(n, picture)]}
        for n, picture in pictures.items()
    ]
    made = Run(str(tmp_path / "run"))
    made.write("photos", pa.Table.from_pylist(rows, records.PHOTOS), "0")
    encounters = [{"encounter_id": f"{n}#0", "sequence_id": n, "instance_ids": [f"{n}#0"]} for n in pictures]
    made.write("encounters", pa.Table.from_pylist(encounters, records.ENCOUNTERS), "00000")
    return made


def test_places_go_where_the_map_carries_them(pictures):
    first, second, other = (Shown.of(n, instance(n, picture)) for n, picture in pictures.items())
    there = carried(first, second)
    assert np.abs(there - (SHRINK * MIDDLES + SHIFT)).max() < 3
    assert np.isnan(carried(first, other)).all()


def test_what_was_not_extracted_is_no_place(pictures):
    """Of the left half of the second photo nothing came out: places that would lie there, two of the six, are none."""
    half = instance("2", pictures["2"])
    pattern = pictures["2"] > 140
    pattern[:, :230] = False
    half["pattern"] = photos.encode_mask_png(pattern)
    there = carried(Shown.of("1", instance("1", pictures["1"])), Shown.of("2", half))
    assert np.isfinite(there[:, 0]).tolist() == [False, False, True, True, True, True]


def test_names_make_places(run, tmp_path):
    """In CSV or by instance: a place of Anna's is a member of both of her sequences."""
    names = tmp_path / "names.csv"
    names.write_text("encounter_id,individual\n1#0,Anna\n2#0,Anna\n3#0,Bert\n")
    places = matched.read(run, truth.instance_names(run, str(names)))
    assert len(places) == len(MIDDLES)
    assert [[len(of_sequence) for of_sequence in place] for place in places.members] == [[1, 1]] * len(MIDDLES)
    one, two = (places.member(0, turn, np.random.default_rng(0), 0.0) for turn in (0, 1))
    assert one.shape == two.shape == (SIZE, SIZE)
    smaller = cv2.resize(one.astype(np.float32), None, fx=SHRINK, fy=SHRINK)  # the second photo shows it smaller
    edge = (SIZE - len(smaller)) // 2
    seen = two[edge : edge + len(smaller), edge : edge + len(smaller)]
    assert np.corrcoef(smaller.ravel(), seen.ravel())[0, 1] > 0.8


def test_one_sequence_or_other_names_are_nothing_to_learn_from(run):
    for names in ({}, {"1#0": "Anna", "2#0": "Bert", "3#0": "Bert"}):
        with pytest.raises(UserError, match="shows no animal that has a name in two sequences"):
            matched.read(run, names)
