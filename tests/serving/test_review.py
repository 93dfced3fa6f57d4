"""What is looked at next, and small things that pages show."""

from __future__ import annotations

import base64
import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from pusa.gallery.geometry import NO_MATCH, Features
from pusa.gallery.journal import Catalogue
from pusa.photos import decode_jpeg, encode_jpeg
from serving.album import matched
from serving.database import Database
from serving.pages import suggested
from serving.pages_catalogue import timeline
from serving.review import Desk, bits
from serving.shelf import Contents, Entry
from serving.workers import Pair

from .conftest import Still


def candidates(new: float, *shares: float) -> list[dict]:
    return [{"individual": f"A{i}", "probability": p, "new_probability": new} for i, p in enumerate(shares)]


def entry(number: int, patches: int = 9, year: int | None = None) -> Entry:
    time = dt.datetime(year, 7, 2, 12) if year else None
    return Entry(f"{number:020x}", ("r", f"{number}"), None, None, time, time, None, patches, None, None)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (candidates(0.0, 1.0), 0.0),  # certain
        (candidates(0.5, 0.5), 1.0),  # a coin
        (candidates(0.25, 0.25, 0.25, 0.25), 2.0),  # one of four
        (candidates(0.5, 0.25), 1.5),  # what is left is of the others
        ([], 0.0),  # nobody to compare with
        ([{"individual": "A", "probability": None, "new_probability": None}], 0.0),  # nothing is calibrated
    ],
)
def test_bits(found, expected):
    assert bits(found) == pytest.approx(expected)


def test_the_most_informative_comes_first(tmp_path):
    """A coin, one that is nearly certain, one that was not asked about, and one without a pattern."""
    database = Database(str(tmp_path))
    every = [entry(1, patches=0), entry(2), entry(3), entry(4)]
    database.keep_answer(("r", "3"), "v", candidates(0.01, 0.99))
    database.keep_answer(("r", "4"), "v", candidates(0.5, 0.5))
    contents = Contents("v", [], Catalogue(), {e.token: e for e in every}, {})
    desk = Desk(None, database, Still())  # type: ignore[arg-type]
    order = [w.entry.key[1] for w in desk.queue(contents)]
    assert order == ["4", "3", "2", "1"]
    assert desk.after(contents, every[3].token) == every[2]
    assert desk.after(contents, every[0].token) == every[3]  # from the beginning again
    assert desk.after(Contents("v", [], Catalogue(), {}, {}), None) is None


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ([], "A001"),
        (["S009", "S010"], "S011"),  # as wide as those there
        (["Aino", "Bo"], "A001"),  # names without a number
        (["S1", "S2", "X7"], "S3"),  # the prefix that most have
        (["A999"], "A1000"),
    ],
)
def test_suggested_names(known, name):
    assert suggested(Contents("v", [], Catalogue(known=set(known)), {}, {})) == name


def test_a_name_that_was_merged_away_is_not_suggested():
    found = Catalogue(known={"S001"}, merged={"S002": "S001"})
    assert suggested(Contents("v", [], found, {}, {})) == "S003"


def test_timeline():
    """2 July, noon, is the middle of a year; two at the same time stand above each other."""
    ticks, points = timeline([entry(1, year=2019), entry(2, year=2019), entry(3, year=2021), entry(4)])
    assert [(t.year, round(t.x)) for t in ticks] == [(2019, 0), (2020, 33), (2021, 67), (2022, 100)]
    assert [(round(p.x), p.row) for p in points] == [(17, 0), (17, 1), (83, 0)]
    assert timeline([entry(1)]) == ([], [])


def test_a_match_is_turned_onto_the_query():
    """The second crop is the first one turned by a quarter: turned back, a bright corner lies where it was."""
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:16, :16] = 255
    first = Features(None, 64, (100.0, 200.0), encode_jpeg(rgb, 95))  # type: ignore[arg-type]
    second = Features(None, 128, (0.0, 0.0), encode_jpeg(np.rot90(rgb, -1), 95))  # type: ignore[arg-type]
    # From px of the first photo to px of the second: (x, y) of the crop goes to 2 (64 - y, x).
    there = np.array([[0.0, -2.0, 2 * 64 + 2 * 200], [2.0, 0.0, -2 * 100]])
    at = np.array([[108.0, 208.0], [150.0, 250.0], [120.0, 260.0]])
    found = matched(
        Pair(first, second, replace(NO_MATCH, first=at, second=at @ there[:, :2].T + there[:, 2], map=there))
    )
    assert (found.width, found.height) == (64, 64)
    for x, y, u, v in found.lines:
        assert (x, y) == pytest.approx((u, v), abs=0.2)
    turned = decode_jpeg(base64.b64decode(found.turned.split(",")[1]))
    assert turned[4:12, 4:12].mean() > 200
    assert turned[24:, 24:].mean() < 20
