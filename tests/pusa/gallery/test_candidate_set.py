"""Whom a query is compared with: by place, years and side."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pytest

from pusa.errors import UserError
from pusa.gallery.candidate_set import CandidateSet

ROWS = [  # place, first and last photo, side
    ("North", (2018, 12, 31, 23), (2019, 1, 1, 1), "left"),
    ("North", (2020, 5, 1), (2020, 5, 1), "right"),
    ("South", (2021, 6, 1), (2021, 6, 1), "left"),
    (None, (2020, 7, 1), (2020, 7, 1), None),
    ("South", None, None, "left"),
]
ABOUT = pa.table(
    {
        "place": pa.array([r[0] for r in ROWS]),
        "taken_from": pa.array([r[1] and datetime(*r[1]) for r in ROWS], pa.timestamp("ms")),
        "taken_to": pa.array([r[2] and datetime(*r[2]) for r in ROWS], pa.timestamp("ms")),
        "side": pa.array([r[3] for r in ROWS]),
    }
)


@pytest.mark.parametrize(
    ("settings", "expected", "told"),
    [
        ({}, [0, 1, 2, 3, 4], "all"),
        ({"places": ("North",)}, [0, 1], "North"),
        ({"places": ("South", "North")}, [0, 1, 2, 4], "South, North"),  # not the one of an unknown place
        ({"first_year": 2019}, [0, 1, 2, 3], "2019 to ..."),  # New Year's night counts for both years
        ({"last_year": 2018}, [0], "... to 2018"),
        ({"first_year": 2020, "last_year": 2020}, [1, 3], "2020 to 2020"),  # not the one without a time
        ({"side": "left"}, [0, 2, 4], "left"),  # an unknown side is no left one
        ({"places": ("South",), "first_year": 2021, "side": "left"}, [2], "South; 2021 to ...; left"),
    ],
)
def test_members(settings, expected, told):
    among = CandidateSet(**settings)
    assert among.members(ABOUT).nonzero()[0].tolist() == expected
    assert str(among) == told


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"places": ("North", "East")}, "no.*place 'East'. It has: North, South"),
        ({"first_year": 2021, "last_year": 2020}, "2021 to 2020 are in the wrong order"),
        ({"first_year": 2030}, "No named encounter .* is in the candidate set: 2030 to ...."),
        ({"side": "front"}, "candidate set: front"),
    ],
)
def test_sets_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=f"(?i){message}"):
        CandidateSet(**settings).members(ABOUT)


def test_a_gallery_that_knows_no_places():
    with pytest.raises(UserError, match=r"'North'\. No place of its encounters is known"):
        CandidateSet(places=("North",)).members(ABOUT.slice(3, 1))


def test_an_empty_gallery_has_no_members():
    assert CandidateSet(first_year=2020).members(ABOUT.slice(0, 0)).tolist() == []
