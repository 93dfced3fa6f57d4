"""How many animals: Poisson distributions whose answer is known, and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pusa.catalogue.count import by_flank, count, seen_once


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0, 5.0])
def test_share_of_animals_seen_once_of_a_poisson_distribution(rate):
    once, more = rate * math.exp(-rate), 1 - math.exp(-rate) - rate * math.exp(-rate)
    mean = (rate - once) / more  # of those seen more than once
    assert seen_once(mean) == pytest.approx(once / more, rel=1e-6)


def test_encounters_that_nobody_recognised_are_no_animals():
    """60 animals of 5 encounters on average; 40 more encounters that could not be recognised."""
    drawn = np.random.default_rng(0).poisson(5, 60)
    seen = drawn[drawn > 0]
    found = count([*seen, *[1] * 40])
    assert found.again == (seen > 1).sum()
    assert found.animals == pytest.approx(len(seen), abs=2)
    assert found.low < len(seen) < found.high
    assert found.animals == found.again + found.once


@pytest.mark.parametrize(
    ("sizes", "again", "once"),
    [
        ([], 0, 0),
        ([1, 1, 1], 0, 3),  # nothing was recognised: as many as there are encounters
        ([2, 2, 1], 2, 1),  # the fewest possible: no more than there are alone
        ([9, 9, 9], 3, 0),  # nobody is alone
    ],
)
def test_limits(sizes, again, once):
    found = count(sizes)
    assert (found.again, found.once) == (again, once)
    assert found.low <= found.animals <= found.high


def test_by_flank_each_animal_is_counted_once():
    """Two animals, one of which is in two clusters, a left and a right one, that no encounter joins."""
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    left, right, both, none = [True, False], [False, True], [True, True], [False, False]
    shown = np.array([left, left, none, right, right, right, both, left, right, none])
    found = by_flank(labels, shown)
    assert [c.again for c in found] == [2, 2]  # 0 and 2; 1 and 2
    assert [c.alone for c in found] == [0, 0]  # 3 shows no flank
    assert count([3, 3, 3, 1]).again == 3


def test_by_flank_where_no_side_is_known():
    assert [c.animals for c in by_flank([0, 0, 1], np.zeros((3, 2), bool))] == [0, 0]
