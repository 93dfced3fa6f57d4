"""Sides of the pictures of one encounter."""

import pytest

from pusa.sides.agree import agreed

L, R, U = ("left", 0.9), ("right", 0.9), ("unknown", 0.4)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], []),
        ([L], ["left"]),
        ([L, R], ["left", "right"]),  # nobody knows which is wrong, if any
        ([L, L, R], ["left", "left", "unknown"]),  # one of three
        ([L, L, L, R, R], ["left", "left", "left", "right", "right"]),  # it turned round
        ([L, U, U, R, L], ["left", "unknown", "unknown", "unknown", "left"]),  # one of three flanks told
        ([L, L, L, ("right", None)], ["left", "left", "left", "right"]),  # said by the input: stays
        ([R, ("left", None), ("left", None)], ["right", "left", "left"]),  # and does not outvote what was told
        ([("front", 0.9), L], ["front", "left"]),
    ],
)
def test_a_flank_that_few_show(told, expected):
    assert agreed(told) == expected
