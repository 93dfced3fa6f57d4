"""Partitions of small graphs, worked by hand, and the laws that hold on any graph."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusa.catalogue.clusters import Clusters
from pusa.catalogue.evidence import Evidence, flanks, shown


def evidence(size, weights, apart=(), sides=None) -> Evidence:
    """What is below 0 was said by people: else it would not count."""
    measured = {p: w for p, w in weights.items() if w >= 0}
    pairs = np.array(list(measured), int).reshape(-1, 2)
    shown = None if sides is None else flanks(sides)
    made = Evidence(size, pairs, np.array(list(measured.values()), float), flanks=shown, apart=apart)
    for (a, b), w in weights.items():
        if w < 0:
            made.answer(a, b, w)
    return made


def settled(found: Evidence, cost: float) -> Clusters:
    clusters = Clusters(found, cost)
    clusters.agglomerate()
    clusters.search(list(clusters.members))
    return clusters


def groups(clusters: Clusters) -> set[frozenset[int]]:
    return {frozenset(m) for m in clusters.members.values()}


def parts(*members) -> set[frozenset[int]]:
    return {frozenset(m) for m in members}


LEFT, RIGHT, BOTH = ["left", "left"], ["right"], ["left", "right"]


@pytest.mark.parametrize(
    ("size", "weights", "apart", "sides", "expected"),
    [
        # Two animals may be one if their pair outweighs the cost, 3.
        (3, {(0, 1): 4.0, (1, 2): 2.9}, (), None, parts({0, 1}, {2})),
        # 0-1 are joined first (4 > 3); 2 has 2 + 2 > 3 to both together.
        (3, {(0, 1): 4.0, (0, 2): 2.0, (1, 2): 2.0}, (), None, parts({0, 1, 2})),
        # What people say against counts as well: 2 has 5 - 3 < 3.
        (3, {(0, 1): 6.0, (0, 2): 5.0, (1, 2): -3.0}, (), None, parts({0, 1}, {2})),
        # Two of one photo are two animals, whoever resembles both; the stronger pair is joined.
        (3, {(0, 1): 6.0, (1, 2): 9.0}, [(0, 2)], None, parts({0}, {1, 2})),
        # Two pairs, one link between them that is too weak for four.
        (4, {(0, 1): 9.0, (2, 3): 9.0, (1, 2): 8.0, (0, 3): -6.0}, (), None, parts({0, 1}, {2, 3})),
        # Left and right say nothing about each other, whatever was measured ...
        (2, {(0, 1): 9.0}, (), [LEFT, RIGHT], parts({0}, {1})),
        # ... and come together through an encounter that shows both,
        (3, {(0, 1): 9.0, (0, 2): 5.0, (1, 2): 5.0}, (), [LEFT, RIGHT, BOTH], parts({0, 1, 2})),
        # or one of which the side is not known.
        (3, {(0, 2): 5.0, (1, 2): 5.0}, (), [LEFT, RIGHT, ["unknown"]], parts({0, 1, 2})),
        # Nothing is known: each is one of its own.
        (2, {}, (), None, parts({0}, {1})),
    ],
)  # fmt: skip
def test_worked_by_hand(size, weights, apart, sides, expected):
    assert groups(settled(evidence(size, weights, apart, sides), 3.0)) == expected


def test_sides_an_encounter_may_show():
    rows = [["left"], ["right", "right"], ["left", "unknown"], ["left", "right"], ["unknown"], ["front", "left"], []]
    assert flanks(rows).tolist() == [[True, False], [False, True], [True, False]] + [[True, True]] * 4
    assert shown(rows).tolist() == [
        [True, False], [False, True], [True, False], [True, True], [False, False], [True, False], [False, False],
    ]  # fmt: skip


def test_search_mends_what_agglomeration_joined_too_early():
    """0-1 is the strongest pair, but 1 belongs to 2 and 3: alone with 0 it gains 6, with the others 5 + 5."""
    weights = {(0, 1): 6.0, (1, 2): 5.0, (1, 3): 5.0, (2, 3): 2.0, (0, 2): -9.0, (0, 3): -9.0}
    clusters = Clusters(evidence(4, weights), 1.0, [0, 0, 1, 1])
    assert clusters.objective() == 6 + 2 + 2 * 1
    clusters.search(clusters.members)
    assert groups(clusters) == parts({0}, {1, 2, 3})
    assert clusters.objective() == 5 + 5 + 2 + 2 * 1


def test_a_split_frees_what_hangs_on_one_link():
    """Two triangles, joined by hand: the link between them is cut, not one corner."""
    triangle = {(0, 1): 4.0, (0, 2): 4.0, (1, 2): 4.0, (3, 4): 4.0, (3, 5): 4.0, (4, 5): 4.0, (2, 3): 1.0}
    clusters = Clusters(evidence(6, triangle), 3.0, [0] * 6)
    clusters.search([0])
    assert groups(clusters) == parts({0, 1, 2}, {3, 4, 5})


def test_what_is_measured_counts_for_one_animal_what_is_said_for_both():
    made = Evidence(2, np.array([[0, 1]]), np.array([-3.0]))
    assert made.weights[0] == {}
    for said, odds, counted in ((4.0, 1.0, 1.0), (-4.0, -3.0, 0.0), (-4.0, -7.0, -4.0), (0.0, -7.0, -4.0)):
        made.answer(1, 0, said)
        assert (made.odds[0][1], made.weights[1].get(0, 0)) == (odds, counted)
    assert made.answers == {(0, 1): [4, -4, -4, 0]}


@st.composite
def graphs(draw):
    size = draw(st.integers(1, 8))
    every = [(a, b) for a in range(size) for b in range(a + 1, size)]
    chosen = draw(st.lists(st.sampled_from(every), unique=True)) if every else []
    # Odd numbers of a fine grid: no two partitions are equally good by rounding.
    weights = {p: draw(st.integers(-900, 900)) / 100 for p in chosen}
    apart = draw(st.lists(st.sampled_from(every), unique=True, max_size=3)) if every else []
    sides = draw(st.lists(st.sampled_from([LEFT, RIGHT, BOTH, ["unknown"]]), min_size=size, max_size=size))
    return size, weights, apart, sides


@given(graphs(), st.floats(0, 4))
def test_constraints_are_never_broken_and_no_change_is_better(graph, cost):
    size, _, apart, sides = graph
    clusters = settled(evidence(*graph), cost)
    assert sorted(i for m in clusters.members.values() for i in m) == list(range(size))
    assert all(clusters.label[a] != clusters.label[b] for a, b in apart)
    assert all(c.loss > -1e-6 for name in list(clusters.members) for c in clusters.changes(name))
    for members in clusters.members.values():
        shown = flanks([sides[i] for i in members])
        # A cluster of both flanks holds an encounter that may show both: it is one cluster for what is common only.
        assert shown.all(axis=1).any() or shown.any(axis=0).sum() == 1


@given(graphs(), st.floats(0, 4))
def test_a_change_loses_what_it_says(graph, cost):
    clusters = settled(evidence(*graph), cost)
    before, labels = clusters.objective(), list(clusters.label)
    for change in [c for name in list(clusters.members) for c in clusters.changes(name)]:
        other = Clusters(clusters.evidence, cost, labels)
        other.apply(change)
        assert before - other.objective() == pytest.approx(change.loss, abs=1e-6)


@given(graphs(), st.randoms(use_true_random=False))
def test_numbers_of_encounters_do_not_matter(graph, random):
    """The objective reached is the same whatever the encounters are called, where no two changes are equally good."""
    size, weights, apart, sides = graph
    # Weights of their own, so that nothing ties: powers of two cannot cancel one another.
    weights = {p: (w or 1) + 2.0**-k for k, (p, w) in enumerate(sorted(weights.items()), 5)}
    order = list(range(size))
    random.shuffle(order)
    renamed = {tuple(sorted((order[a], order[b]))): w for (a, b), w in weights.items()}
    moved = [sides[order.index(i)] for i in range(size)]
    first = settled(evidence(size, weights, apart, sides), 1.0)
    second = settled(evidence(size, renamed, [(order[a], order[b]) for a, b in apart], moved), 1.0)
    assert {frozenset(order[i] for i in m) for m in groups(first)} == groups(second)


@given(graphs(), st.data())
def test_an_answer_that_agrees_never_lowers_the_objective(graph, data):
    clusters = settled(evidence(*graph), 1.0)
    size = graph[0]
    if size < 2:
        return
    a, b = sorted(data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True)))
    together = clusters.label[a] == clusters.label[b]
    before, apart = clusters.objective(), groups(clusters)
    clusters.evidence.answer(a, b, 3.0 if together else -3.0)
    touched = clusters.search({clusters.label[a], clusters.label[b]})
    assert clusters.objective() >= before - 1e-9
    assert touched
    assert groups(clusters) == apart  # what agrees changes nothing
