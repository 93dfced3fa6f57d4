"""Sides of instances: told where nobody said them, and only where the network is sure."""

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch

from pusa import photos as photo_files
from pusa import records
from pusa.errors import UserError
from pusa.records import PHOTOS
from pusa.segmentation import masks
from pusa.sides.find import SideConfig, SideFinder
from pusa.sides.network import KINDS


class Bright(torch.nn.Module):
    """Says left where the left half is the brighter one, as sure as it is bright; right likewise."""

    def forward(self, x):
        x = x[:, 0].float() / 255
        left, right = x[..., :64].mean((1, 2)), x[..., 64:].mean((1, 2))
        found = torch.zeros(len(x), len(KINDS))
        found[:, 0], found[:, 1] = 20 * (left - right), 20 * (right - left)
        return found


def animal(number: int, left: int, right: int, **fields) -> dict:
    """A square of 80 px whose halves have two greys, and a black line that keeps them from being stretched."""
    grey = np.full((80, 80), left, np.uint8)
    grey[:, 40:] = right
    grey[:4], grey[-4:] = 0, 255
    return records.new_instance(
        f"p#{number}",
        crop=photo_files.encode_jpeg(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), 95),
        crop_box=np.array([10, 20, 90, 100], np.int32),
        mask=masks.encode(np.pad(np.ones((80, 80), bool), ((20, 20), (10, 10)))),
    ) | fields  # fmt: skip


def told(*instances: dict, network=None, **settings) -> list[dict]:
    table = pa.Table.from_pylist(
        [{"photo_id": "p", "sequence_id": "s", "status": "ok", "instances": list(instances)}], schema=PHOTOS
    )
    finder = SideFinder(SideConfig(**{"weights": None} | settings), network=network)
    return records.instances(finder(table))[0]


@pytest.mark.parametrize(
    ("given", "side", "sure"),
    [
        ({}, "left", True),
        ({"side": "right"}, "right", None),  # said by the input: stays, and has no probability
        ({"side": "right", "side_probability": 0.9}, "left", True),  # told by an earlier run: told anew
        ({"crop": None}, "unknown", None),
    ],
)
def test_what_is_told(given, side, sure):
    (found,) = told(animal(0, 200, 20) | given, network=Bright())
    assert found["side"] == side
    if sure is None:
        assert found["side_probability"] is None
    else:
        assert 0.9 < found["side_probability"] <= 1


def test_below_the_least_probability_it_is_unknown():
    instances = [animal(0, 200, 20), animal(1, 20, 200), animal(2, 110, 100)]
    found = told(*instances, network=Bright())
    assert [i["side"] for i in found] == ["left", "right", "unknown"]
    assert 1 / len(KINDS) < found[2]["side_probability"] < 0.8  # kept: how sure it was
    assert [i["side"] for i in told(*instances, network=Bright(), least=0.0)] == ["left", "right", "left"]


def test_without_weights_nothing_is_told_and_what_was_told_is_gone():
    found = told(animal(0, 200, 20), animal(1, 200, 20, side="up"), animal(2, 9, 9, side="left", side_probability=0.8))
    assert [(i["side"], i["side_probability"]) for i in found] == [("unknown", None), ("up", None), ("unknown", None)]


def test_an_empty_table():
    table = pa.Table.from_pylist([{"photo_id": "p", "status": "error", "instances": []}], schema=PHOTOS)
    assert records.instances(SideFinder(SideConfig(weights=None), network=Bright())(table)) == [[]]


def test_weights_of_another_kind():
    with pytest.raises(UserError, match="expected sides weights, found pattern"):
        SideFinder(SideConfig(weights="starter/pattern"))
