"""Pairs of key points on animals that have names: on pictures whose map is known, and what is not paired."""

import cv2
import numpy as np
import pyarrow as pa
import pytest

from pusa import records
from pusa.errors import UserError
from pusa.gallery import geometry
from pusa.gallery.geometry import GeometryConfig
from pusa.marks import named
from pusa.marks.named import Shown
from pusa.marks.network import MarkNetwork
from pusa.records import Run

TURN = cv2.getRotationMatrix2D((160, 100), 12, 0.9) + np.array([[0, 0, 6], [0, 0, -4]])


def turned(crop: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(crop, TURN, (320, 200), borderMode=cv2.BORDER_REFLECT)


def shown(found: dict, upright: bool = False, start: str | None = None) -> Shown:
    return named.shown("s", found, upright, start)


@pytest.mark.parametrize("start", [None, "starter/marks"])
def test_pairs_lie_where_the_map_says(marks, instance, start):
    """Turned by 12 degrees and .9 times as large; the first crop stands for a part of its photo twice as large."""
    first = shown(instance(marks(0), scale=2, corner=(50, 9)), start=start)
    second = shown(instance(turned(marks(0))), start=start)
    i, j = named.same(first, second)
    assert len(i) > 60
    expected = first.marks[i, :2] @ TURN[:, :2].T + TURN[:, 2]
    assert np.median(np.linalg.norm(second.marks[j, :2] - expected, axis=1)) < 1.5
    assert np.linalg.norm(second.marks[j, :2] - expected, axis=1).max() < named.NEAR * 320 + 4
    turn = (second.marks[j, 3] - first.marks[i, 3] + 180) % 360 - 180
    assert np.median(turn) == pytest.approx(-12, abs=3)  # OpenCV turns against the clock, its key points count with it
    assert len(set(i)) == len(i) == len(set(j))


def test_upright_marks_are_paired_too(marks, instance):
    """The mask is the whole crop, lying: each mark has the angle 0 on both, 12 degrees off the map's."""
    first, second = (shown(instance(crop), upright=True) for crop in (marks(0), turned(marks(0))))
    i, j = named.same(first, second)
    assert len(i) > 60
    assert set(first.marks[i, 3]) == set(second.marks[j, 3]) == {0}


@pytest.mark.parametrize("start", [None, "starter/marks"])
def test_another_animal_gives_no_pair(marks, instance, start):
    first, second = (shown(instance(marks(number)), start=start) for number in (0, 1))
    assert [len(k) for k in named.same(first, second)] == [0, 0]


def test_a_map_of_too_few_inliers_is_none(marks, instance):
    first, second = shown(instance(marks(0))), shown(instance(turned(marks(0))))
    inliers = geometry.match(first.features, second.features, GeometryConfig()).inliers
    assert [len(k) for k in named.same(first, second, inliers + 1)] == [0, 0]
    assert len(named.same(first, second, inliers)[0]) > 60


@pytest.fixture
def run(tmp_path, marks, instance):
    """Anna on two days, Bert once, and a photo of nobody."""
    crops = [marks(0), turned(marks(0)), marks(1), marks(2)]
    rows = []
    for k, crop in enumerate(crops):
        mine = instance(crop) | {"instance_id": f"p{k}#0"}
        row = {f.name: None for f in records.PHOTOS}
        rows.append(row | {"photo_id": f"p{k}", "path": f"{k}.jpg", "sequence_id": str(k), "status": "ok",
                           "instances": [mine]})  # fmt: skip
    made = Run(str(tmp_path / "run"))
    made.write("photos", pa.Table.from_pylist(rows, records.PHOTOS), "00000")
    return made


def test_pairs_of_a_run(run):
    names = {"p0#0": "Anna", "p1#0": "Anna", "p2#0": "Bert"}
    found = named.read(run, names, MarkNetwork())
    assert len(found.pictures) == 3
    assert len(found) > 60
    first, second = (found.member(5, turn, np.random.default_rng(0), 0) for turn in (0, 1))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.8
    with pytest.raises(UserError, match="no animal that has a name in two sequences"):
        named.read(run, names | {"p1#0": "Bert"}, MarkNetwork())
