"""Rand index, adjusted Rand index and purity: by hand, against scikit-learn, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, rand_score

from pusa.partitions import grouping_metrics, pairs, purity


@pytest.mark.parametrize(
    ("truth", "found", "rand", "pure"),
    [
        ("aabb", "xxyy", 1, 1),  # equal but for the names
        ("aabb", "xyxy", 2 / 6, 0.5),  # of 6 pairs, aa and bb are torn, 2 mixed pairs joined: the other 2 agree
        ("aabb", "xxxx", 2 / 6, 0.5),  # all in one group: only the 2 true pairs agree
        ("aabb", "wxyz", 4 / 6, 1),  # all alone: the 4 mixed pairs agree; alone is always pure
        ("aab", "xyy", 1 / 3, 2 / 3),  # aa torn, ab joined wrongly, one ab right
        ("a", "x", 1, 1),  # no pair
        ("", "", 1, 1),  # nothing
    ],
)
def test_by_hand(truth, found, rand, pure):
    assert pairs(truth, found).rand_index == pytest.approx(rand)
    assert purity(truth, found) == pytest.approx(pure)


def test_adjusted_by_hand():
    # aaabb against xxyyy: pairs 10; together in truth 3 + 1 = 4, found 1 + 3 = 4, both: aa in x 1, bb in y 1 = 2.
    # Expected 16/10, largest 4: (2 - 1.6) / (4 - 1.6) = 1/6.
    assert pairs("aaabb", "xxyyy").adjusted_rand_index == pytest.approx(1 / 6)


def test_over_sequences():
    # (aabb, xxxx): 2 of 6 pairs agree; (ab, xy): 1 of 1; one instance: no pair, left out.
    found = grouping_metrics([("aabb", "xxxx"), ("ab", "xy"), ("a", "x")])
    assert found["sequences"] == 2
    assert found["pairs"] == 7
    assert found["rand_index"] == pytest.approx((2 / 6 + 1) / 2)
    assert found["pooled_rand_index"] == pytest.approx(3 / 7)
    assert found["adjusted_rand_index"] == pytest.approx((0 + 1) / 2)
    assert found["purity"] == pytest.approx(4 / 6)
    assert found["perfect"] == 0.5


def test_nothing_to_measure():
    with pytest.raises(ValueError, match="no sequence"):
        grouping_metrics([("a", "x")])
    with pytest.raises(ValueError, match="2 true labels and 1 found"):
        pairs("ab", "x")


labels = st.integers(2, 30).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 5), min_size=n, max_size=n)] * 2))


@settings(deadline=None)
@given(labels)
def test_equals_scikit_learn(both):
    assert pairs(*both).rand_index == pytest.approx(rand_score(*both))
    assert pairs(*both).adjusted_rand_index == pytest.approx(adjusted_rand_score(*both))


@settings(deadline=None)
@given(labels, st.permutations(range(6)))
def test_symmetric_and_blind_to_names(both, names):
    truth, found = both
    renamed = [names[i] for i in found]
    assert pairs(truth, found).rand_index == pairs(found, truth).rand_index == pairs(truth, renamed).rand_index
    assert pairs(truth, found).adjusted_rand_index == pytest.approx(pairs(found, truth).adjusted_rand_index)
    assert purity(truth, found) == purity(truth, renamed)
    assert pairs(truth, truth).rand_index == pairs(truth, truth).adjusted_rand_index == purity(truth, truth) == 1


def test_many_labels_need_no_table_of_all_with_all():
    """100,000 animals by 100,000 groups, two encounters each, of which one pair is in the wrong groups."""
    truth = np.repeat(np.arange(100_000), 2)
    found = truth.copy()
    found[1], found[2] = found[2], found[1]
    counts = pairs(truth, found)
    assert (counts.together_true, counts.together_found, counts.together_both) == (100_000, 100_000, 99_998)
    assert purity(truth, found) == 1 - 2 / 200_000
