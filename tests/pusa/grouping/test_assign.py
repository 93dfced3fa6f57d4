"""Grouping against a case worked by hand from the paper's five steps, and against laws that hold for every input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pusa.errors import UserError
from pusa.grouping.assign import (
    GroupingConfig,
    agglomerative,
    between_strangers,
    displacement,
    greedy,
    group,
    open_,
    optimal,
    within_photos,
)


def photo(*positions: float) -> np.ndarray:
    """A photo whose instances have descriptors on a line, so that distances are differences."""
    return np.array(positions, float).reshape(-1, 1)


def test_worked_by_hand():
    # Photos A (2 seals), B (3), C (2), D (3), E (0).
    # Step 1: B and D have 3; B is earlier. Groups 0, 1, 2 = seals at 0, 10, 20.
    # A: 12 and 13. Distances to the groups: 12, 2, 8 and 13, 3, 7. Smallest 2: the first to group 1; both struck.
    #    Left for the second: 13 and 7: to group 2. Groups now {0}, {10, 12}, {20, 13}.
    # C: 11 and 1. Means of 11: 11, (1 + 1)/2 = 1, (9 + 2)/2 = 5.5. Of 1: 1, (9 + 11)/2 = 10, (19 + 12)/2 = 15.5.
    #    Smallest 1, twice: the first instance leads, to group 1; then the second to group 0.
    #    Groups now {0, 1}, {10, 12, 11}, {20, 13}.
    # D: 14, 16, 2. Means of 14: (14 + 13)/2 = 13.5, (4 + 2 + 3)/3 = 3, (6 + 1)/2 = 3.5.
    #    Of 16: (16 + 15)/2 = 15.5, (6 + 4 + 5)/3 = 5, (4 + 3)/2 = 3.5. Of 2: (2 + 1)/2 = 1.5, 9, 14.5.
    #    Smallest 1.5: the third to group 0. Then 3: the first to group 1. Then the second to group 2.
    photos = [photo(12, 13), photo(0, 10, 20), photo(11, 1), photo(14, 16, 2), photo()]
    assert greedy(photos) == [[1, 2], [0, 1, 2], [1, 0], [1, 2, 0], []]


# The first instance is 1.0 from group 0 and 1.1 from group 1, the second 1.2 and 3.3: greedy takes the 1.0 first and
# pays 3.3 for the rest, together 4.3; the optimum is 1.1 + 1.2.
CROSSED = [photo(0, 2.1), photo(1, -1.2)]


def test_greedy_and_optimal_differ_where_the_nearest_pair_is_dear():
    assert greedy(CROSSED)[1] == [0, 1]
    assert optimal(CROSSED)[1] == [1, 0]


@pytest.mark.parametrize(
    ("photos", "expected"),
    [
        ([], []),  # no photo
        ([photo(), photo()], [[], []]),  # no instance at all
        ([photo(3, 1)], [[0, 1]]),  # one photo: every instance is a group
        ([photo(), photo(5), photo()], [[], [0], []]),  # photos without instances stay in their places
        ([photo(1), photo(9)], [[0], [0]]),  # the known weakness: another animal is forced into the only group
        ([photo(9, 0), photo(1, 8)], [[0, 1], [1, 0]]),  # as many in both: the earlier starts the groups
        ([photo(7), photo(0, 8)], [[1], [0, 1]]),  # fewer instances than groups: one group has no member there
        ([photo(0, 2), photo(1)], [[0, 1], [0]]),  # a tie between groups: the lower one
        ([photo(0, 2), photo(1, 1)], [[0, 1], [0, 1]]),  # a tie between instances: the lower one first
    ],
)
def test_small_cases(photos, expected):
    assert greedy(photos) == expected
    assert optimal(photos) == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_descriptors_that_are_not_finite(bad):
    with pytest.raises(UserError, match="NaN or infinity"):
        greedy([photo(1, 2), photo(bad)])


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([], 1.5),  # nothing known: the usual distance
        ([0.2], 15.2 / 11),  # one pair, perhaps of one animal: it counts as one of eleven
        ([1.0] * 10, 1.25),  # as many as the usual distance weighs: in the middle
        ([1.0] * 990, 1.005),  # many: their median
    ],
)
def test_few_pairs_of_strangers_count_little(known, expected):
    assert between_strangers(np.array(known), 1.5) == pytest.approx(expected)


def test_descriptors_of_different_length():
    with pytest.raises(UserError, match="2, 3"):
        greedy([np.zeros((1, 2)), np.zeros((1, 3))])


def test_config_chooses_the_method():
    assert group(CROSSED, GroupingConfig(method="greedy")) == greedy(CROSSED)
    assert group(CROSSED, GroupingConfig(method="optimal")) == optimal(CROSSED)
    wide = GroupingConfig(threshold=1e6)
    assert group(CROSSED, wide) == agglomerative(CROSSED, 1e6 * (wide.strangers + wide.position))


@st.composite
def sequences(draw):
    counts = draw(st.lists(st.integers(0, 5), min_size=1, max_size=8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return [rng.standard_normal((n, 4)) for n in counts]


@settings(deadline=None)
@given(sequences(), st.sampled_from([greedy, optimal]))
def test_shape_and_one_instance_per_photo_and_group(photos, method):
    groups = method(photos)
    assert [len(g) for g in groups] == [len(p) for p in photos]
    most = max(len(p) for p in photos)
    for labels in groups:
        assert len(set(labels)) == len(labels)
        assert set(labels) <= set(range(most))


@settings(deadline=None)
@given(sequences(), st.sampled_from([greedy, optimal]), st.randoms(use_true_random=False))
def test_order_within_photos_does_not_matter(photos, method, random):
    # The same instances must end up together, however the photos list them (descriptors are distinct: no ties).
    orders = [random.sample(range(len(p)), len(p)) for p in photos]
    shuffled = method([p[o] for p, o in zip(photos, orders, strict=True)])
    plain = method(photos)
    pairs = {(plain[i][o], shuffled[i][k]) for i, order in enumerate(orders) for k, o in enumerate(order)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@settings(deadline=None)
@given(sequences())
def test_two_far_apart_animals_are_never_mixed(photos):
    # Photos of the same two animals with small noise: the groups are the animals, in every photo.
    clean = [np.array([[0.0] * 4, [9.0] * 4]) + 0.1 * np.tanh(p.sum() if len(p) else 0) for p in photos]
    assert all(labels == [0, 1] for labels in greedy(clean))


# Two animals far apart, at 0 and 10; the second one is never beside the first. What the paper's five steps force into
# one group, the others keep apart.
NEVER_TOGETHER = [photo(0), photo(10), photo(0.1), photo(10.1)]


def test_animals_that_are_never_in_one_photo():
    assert greedy(NEVER_TOGETHER) == [[0], [0], [0], [0]]
    assert open_(NEVER_TOGETHER, 2) == agglomerative(NEVER_TOGETHER, 2) == [[0], [1], [0], [1]]


def test_open_by_hand():
    # Threshold 4. First photo: groups 0 at 0 and 1 at 10. Second photo: 1 and 5. Costs to the groups: 1, 9 and 5, 5.
    # Together the cheapest: 1 joins group 0 (1), 5 starts a group (4). Third: 2 and 11 to groups {0, 1}, {10}, {5}:
    # 2: 1.5, 8, 3; 11: 10.5, 1, 6: groups 0 and 1.
    assert open_([photo(0, 10), photo(1, 5), photo(2, 11)], 4) == [[0, 1], [0, 2], [0, 1]]


def test_agglomerative_by_hand():
    # 0 | 1, 3 | 2.2, in three photos; threshold 1.5. Nearest: 2.2 and 3 (.8), joined. Left: 0 and 1 (1), joined. The
    # two groups share the second photo: apart, although their mean distance were 2.1 ... at any threshold.
    photos = [photo(0), photo(1, 3), photo(2.2)]
    assert agglomerative(photos, 1.5) == agglomerative(photos, 1000) == [[0], [0, 1], [1]]
    assert agglomerative(photos, 0.9) == [[0], [1, 2], [2]]


def test_displacement_by_hand():
    # Boxes of 10 x 10: the second 5 to the right, half their size; the third far away. The fourth, 40 x 40, has its
    # middle 15 to the right and 15 below the first's: 21.2 over a mean size of 25.
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [100, 0, 110, 10], [0, 0, 40, 40]])
    np.testing.assert_allclose(displacement(boxes)[0], [0, 0.5, 1, np.hypot(15, 15) / 25])


@pytest.mark.parametrize("method", ["greedy", "optimal", "open", "agglomerative"])
def test_position_decides_between_equals(method):
    """Two animals that look the same lie still: only where they lie tells them apart."""
    photos = [photo(0, 0), photo(0, 0)]
    left, right = [0, 0, 10, 10], [50, 0, 60, 10]
    boxes = [np.array([left, right]), np.array([right, left])]
    config = GroupingConfig(method=method, position=0.2, threshold=0.5, strangers=0.01)
    assert group(photos, config, boxes) == [[0, 1], [1, 0]]
    without = config.model_copy(update={"position": 0.0})
    assert group(photos, without, boxes)[1] == [0, 1]  # switched off


def test_the_threshold_is_a_share_of_the_distance_between_strangers():
    """Pairs of one photo are 10, 12 and 30 apart, their median 12. Others show an animal at 6, and one at 41."""
    photos = [photo(0, 10), photo(0.5, 12.5), photo(0, 30), photo(6), photo(41)]
    np.testing.assert_allclose(within_photos(photos), [10, 12, 30])
    for share in (0.1, 0.9):
        config = GroupingConfig(method="agglomerative", threshold=share, strangers=12)
        assert group(photos, config) == agglomerative(photos, 12 * share)
    # The usual distance weighs as ten pairs: (3 x 12 + 10 x 25) / 13 = 22.
    config = GroupingConfig(method="agglomerative", threshold=0.5, strangers=25)
    assert group(photos, config) == agglomerative(photos, 11)


@settings(deadline=None)
@given(sequences(), st.sampled_from([open_, agglomerative]), st.floats(0.1, 4))
def test_laws_of_free_groups(photos, method, threshold):
    """At most one instance of a photo in a group; numbers without gaps, in order of appearance."""
    groups = method(photos, threshold)
    assert [len(g) for g in groups] == [len(p) for p in photos]
    for labels in groups:
        assert len(set(labels)) == len(labels)
    flat = [label for labels in groups for label in labels]
    assert [x for i, x in enumerate(flat) if x not in flat[:i]] == list(range(len(set(flat))))


@settings(deadline=None, max_examples=40)
@given(sequences(), st.floats(0.1, 4))
def test_agglomerative_stops_where_nothing_may_be_joined(photos, threshold):
    """No two groups that could be joined are nearer than the threshold, on average."""
    labels = np.array([x for g in agglomerative(photos, threshold) for x in g], int)
    owner = np.repeat(np.arange(len(photos)), [len(p) for p in photos])
    every = np.concatenate([p for p in photos if len(p)]) if len(labels) else np.zeros((0, 4))
    for a in set(labels):
        for b in set(labels) - {a}:
            if not set(owner[labels == a]) & set(owner[labels == b]):
                apart = np.linalg.norm(every[labels == a][:, None] - every[labels == b], axis=2)
                assert apart.mean() > threshold - 1e-9


def test_many_instances_in_one_photo_and_many_photos():
    rng = np.random.default_rng(0)
    animals = rng.standard_normal((500, 32))
    photos = [animals + 0.01 * rng.standard_normal(animals.shape) for _ in range(3)]
    for found in (greedy(photos), agglomerative(photos, 1.0)):
        assert found == [list(range(500))] * 3
