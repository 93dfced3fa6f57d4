"""How often sides are told right: eight instances worked by hand."""

import math

import numpy as np
import pyarrow as pa
import pytest

from pusa import records
from pusa.exchange import Given
from pusa.records import ENCOUNTERS, PHOTOS, Run
from pusa.sides.evaluate import agreement, of_run

ROWS = [
    # side as told, its probability, true side, encounter
    ("left", 0.9, "left", "a"),
    ("unknown", 0.5, "left", "a"),  # not sure: what is told of a is right all the same
    ("right", 0.8, "left", "b"),
    ("left", 0.8, "left", "b"),  # b: the other flank is among it
    ("right", 0.9, "right", "c"),
    ("up", 0.9, "right", "d"),  # d: no flank is told
    ("left", 0.9, "front", "e"),  # no flank is to be seen
    ("right", None, "left", "a"),  # said by the input: not told
]


def made(folder, rows) -> Run:
    run = Run(str(folder))
    instances = [records.new_instance(f"p#{k}", side=side, side_probability=p) for k, (side, p, *_) in enumerate(rows)]
    photo = {"photo_id": "p", "sequence_id": "s", "status": "ok", "instances": instances}
    run.write("photos", pa.Table.from_pylist([photo], schema=PHOTOS), "0")
    members: dict[str, list[str]] = {}
    for k, row in enumerate(rows):
        members.setdefault(row[3], []).append(f"p#{k}")
    found = [{"encounter_id": e, "sequence_id": "s", "instance_ids": ids, "n_patches": 0} for e, ids in members.items()]
    run.write("encounters", pa.Table.from_pylist(found, schema=ENCOUNTERS), "0")
    return run


def test_worked_by_hand(tmp_path):
    animals = {f"p#{k}": Given((0, 0, 1, 1), side=row[2]) for k, row in enumerate(ROWS)}
    found = of_run(made(tmp_path, ROWS), animals)
    assert found == pytest.approx(
        {
            "side_told": 6 / 7,
            "flank_right": 3 / 5,  # of left, right, left, right, left
            "flank_found": 3 / 6,
            "flank_swapped": 1 / 6,
            "group_flank_found": 2 / 4,  # a and c of a, b, c, d
            "group_flank_swapped": 1 / 4,  # b
        }
    )


def test_where_nothing_was_told(tmp_path):
    assert of_run(made(tmp_path, ROWS[-1:]), {"p#0": Given((0, 0, 1, 1), side="left")}) == {}
    assert of_run(made(tmp_path, ROWS), {}) == {}


@pytest.mark.parametrize(
    ("told", "kinds", "right", "flank", "swapped"),
    [
        ([0, 1, 0], [0, 1, 0], 1.0, 1.0, 0.0),
        ([0, 1, 0], [1, 0, 0], 1 / 3, 1 / 3, 2 / 3),  # both flanks taken for the other
        ([2, 2, 2], [0, 1, 2], 1 / 3, 0.0, 0.0),  # not told is not swapped
        ([0, 2], [3, 2], 0.5, math.nan, math.nan),  # no flank to be seen
    ],
)
def test_agreement(told, kinds, right, flank, swapped):
    found = agreement(np.eye(4)[told], np.array(kinds))
    np.testing.assert_allclose([found["right"], found["flank"], found["swapped"]], [right, flank, swapped])
