"""Top-n and average precision, by hand; ties count against the method."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from pusa.ranking import NOT_RANKED, average_precision, bootstrap_interval, hits, ranks, top_n, top_n_gain


@pytest.mark.parametrize(
    ("row", "true", "expected"),
    [
        ([0.1, 0.5, 0.9], 0, 1),  # the nearest
        ([0.1, 0.5, 0.9], 2, 3),  # the farthest
        ([0.5, 0.5, 0.9], 0, 2),  # a tie counts against
        ([0.5, 0.5, 0.5], 1, 3),  # all tied: last
        ([np.inf, 0.5, 0.9], 0, 0),  # the true one is left out: cannot be found
        ([np.nan, 0.5, 0.9], 1, 1),  # not compared does not compete
        ([0.1, 0.5, 0.9], -1, 0),  # not in the gallery
    ],
)
def test_rank_of_the_true_individual(row, true, expected):
    assert ranks(np.array([row]), np.array([true])).tolist() == [expected]


def test_top_n():
    found = np.array([1, 3, 2, 0, 6])
    assert hits(found, 2).tolist() == [True, False, True, False, False]
    assert top_n(found, 1) == 0.2
    assert top_n(found, 5) == 0.6
    with pytest.raises(ValueError, match="no query"):
        top_n(np.array([]), 1)


@pytest.mark.parametrize(
    ("row", "relevant", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4], [1, 0, 1, 0], (1 + 2 / 3) / 2),
        ([0.1, 0.2, 0.3], [0, 0, 1], 1 / 3),
        ([0.1, 0.1, 0.1], [1, 0, 0], 1 / 3),  # tied: the irrelevant ones stand in front
        ([0.1, np.inf, 0.3], [1, 1, 0], 1),  # not compared: not asked for
        ([0.1, 0.2], [0, 0], np.nan),  # nothing to find
        ([0.1, np.nan], [0, 1], np.nan),  # what there is to find is not compared
    ],
)
def test_average_precision_by_hand(row, relevant, expected):
    np.testing.assert_allclose(average_precision(np.array([row]), np.array([relevant], bool)), [expected])


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 20))
def test_average_precision_equals_scikit_learn_without_ties(seed, n):
    rng = np.random.default_rng(seed)
    distance, relevant = rng.permutation(n) / n, rng.random(n) < 0.5
    relevant[0] = True
    expected = average_precision_score(relevant, -distance)
    assert average_precision(distance[None], relevant[None])[0] == pytest.approx(expected)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 6))
def test_more_candidates_never_hurt(seed, n, individuals):
    rng = np.random.default_rng(seed)
    distance = rng.integers(0, 4, (n, individuals)) / 4  # with ties
    found = ranks(distance, rng.integers(0, individuals, n))
    shares = [top_n(found, k) for k in range(1, individuals + 1)]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_bootstrap():
    values = np.tile([0.0, 1.0], 200)
    low, high = bootstrap_interval(values, np.random.default_rng(0))
    assert low == pytest.approx(0.5 - 1.96 * 0.5 / 20, abs=0.01)
    assert high == pytest.approx(0.5 + 1.96 * 0.5 / 20, abs=0.01)
    # Ten equal photos an encounter carry the information of one: 40 clusters, an interval sqrt(10) times as wide.
    grouped = np.repeat(np.tile([0.0, 1.0], 20), 10)
    low, high = bootstrap_interval(grouped, np.random.default_rng(0), np.repeat(np.arange(40), 10))
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(40), abs=0.04)
    assert bootstrap_interval(values, np.random.default_rng(1)) == bootstrap_interval(values, np.random.default_rng(1))


def test_gain_over_another_method():
    """Of four queries two are found that the other method misses, one the other way round."""
    mine, others = np.array([1, 1, 1, 2]), np.array([1, 3, NOT_RANKED, 1])
    more, low, high = top_n_gain(mine, others, 1)
    assert more == 0.25
    assert low < 0 < more < high
    assert top_n_gain(mine, mine, 1) == (0, 0, 0)
