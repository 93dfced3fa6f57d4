"""Exact search: by hand, ties, leave-one-out, blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pusa import records
from pusa.gallery import search
from pusa.gallery.codes import codes
from pusa.gallery.search import Coded, Owners, Vectors, compare, distances, least
from pusa.gallery.verify import Evidence, VerifyConfig


def gallery(*encounters: tuple[str, list[float]]) -> Vectors:
    """Encounters (individual, vector), with the ids g0, g1, ... of run "r"."""
    return Vectors(
        ["r"] * len(encounters),
        [f"g{i}" for i in range(len(encounters))],
        [name for name, _ in encounters],
        np.array([v for _, v in encounters], np.float16).reshape(-1, 2),
    )


def rank(ids, queries, known, top=5, exclude=None, **more):
    """The ranking of what a comparison with all of the gallery, or all but `exclude`, finds."""
    allowed = np.ones((len(queries), len(known.individuals)), bool) if exclude is None else ~exclude
    return search.rank(ids, compare(queries, known, allowed, **more), top)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 0], [1, 0], 0),
        ([1, 0], [0, 2], 1),  # lengths do not matter
        ([1, 0], [-3, 0], 2),
        ([1, 1], [1, 0], 1 - 0.5**0.5),
        ([1, 0], [0, 0], 1),  # a zero vector is near to nothing
    ],
)
def test_cosine_distance(a, b, expected):
    assert distances(np.array([a], np.float32), np.array([b], np.float16)).item() == pytest.approx(expected, abs=1e-6)


def test_ranks_individuals_by_their_nearest_encounter():
    known = gallery(("Bo", [0, 1]), ("Aino", [1, 1]), ("Bo", [1, 0]), ("Aino", [-1, 0]), ("Cia", [-1, -1]))
    found = rank(["q0", "q1"], np.array([[2.0, 0.1], [0.0, -1.0]]), known, top=2)
    assert found.candidates.schema == records.CANDIDATES
    assert [(r["encounter_id"], r["rank"], r["individual"]) for r in found.candidates.to_pylist()] == [
        ("q0", 1, "Bo"), ("q0", 2, "Aino"), ("q1", 1, "Cia"), ("q1", 2, "Aino"),
    ]  # fmt: skip
    # q1 is at right angles to the last encounters of Aino and of Bo: a tie, the first name leads.
    assert found.nearest.tolist() == [2, 1, 4, 3]
    assert found.candidates["distance"].to_pylist()[2:] == pytest.approx([1 - 0.5**0.5, 1], abs=1e-6)
    assert found.candidates["probability"].null_count == 4


def test_leave_one_out():
    known = gallery(("Aino", [1, 0]), ("Bo", [1, 0.2]), ("Aino", [0, 1]))
    assert known.places == {("r", "g0"): 0, ("r", "g1"): 1, ("r", "g2"): 2}
    queries = known.fisher.astype(np.float32)
    found = rank(known.encounter_ids, queries, known, exclude=np.eye(3, dtype=bool)).candidates.to_pylist()
    assert [(r["encounter_id"], r["individual"]) for r in found] == [
        ("g0", "Bo"), ("g0", "Aino"),  # Aino's other encounter
        ("g1", "Aino"),  # nothing is left of Bo
        ("g2", "Bo"), ("g2", "Aino"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cost", "count", "expected"),
    [
        ([3, 1, 2], 2, [1, 2]),
        ([3, 1, 2], 9, [1, 2, 0]),  # there are no more
        ([1, 0, 1, 0, 1], 3, [1, 3, 0]),  # the first of equals
        ([np.inf, 2, np.inf], 2, [1]),  # what cannot be compared is never among them
        ([np.inf], 1, []),
        ([], 3, []),
    ],
)
def test_the_least_costs(cost, count, expected):
    assert least(np.array(cost, float), count).tolist() == expected


def coded(known: Vectors, shortlist: int, asked: list | None = None) -> Coded:
    def read(places):
        if asked is not None:
            asked.append(places.tolist())
        return known.fisher[places]

    return Coded(
        known.runs, known.encounter_ids, known.individuals, known.fisher[:0], None, codes(known.fisher), shortlist, read
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 30), st.integers(0, 2**32))
def test_codes_answer_as_the_vectors_where_all_are_on_the_shortlist(e, seed):
    rng = np.random.default_rng(seed)
    known = gallery(*((rng.choice(["Aino", "Bo", "Cia"]), rng.standard_normal(2)) for _ in range(e)))
    queries, allowed = rng.standard_normal((3, 2)), rng.random((3, e)) < 0.7
    one, other = compare(queries, known, allowed), compare(queries, coded(known, e), allowed)
    np.testing.assert_array_equal(one.cost, other.cost)
    there = np.isfinite(one.cost)
    np.testing.assert_array_equal(one.encounter[there], other.encounter[there])
    np.testing.assert_array_equal(one.distance[there], other.distance[there])


def test_only_the_vectors_of_the_shortlist_are_read():
    """At 0, 20, 40, ... degrees from the query, the third is not allowed: the first two and the fourth are read."""
    angles = np.radians(np.arange(0, 180, 20))
    known = gallery(*((f"animal {i}", [np.cos(a), np.sin(a)]) for i, a in enumerate(angles)))
    allowed = np.ones((1, len(angles)), bool)
    allowed[0, 2] = False
    asked: list = []
    distance, cost = coded(known, 3, asked).costs(np.array([[1.0, 0.0]]), allowed)
    assert asked == [[0, 1, 3]]
    np.testing.assert_allclose(distance[0, [0, 1, 3]], 1 - np.cos(angles[[0, 1, 3]]), atol=1e-3)
    np.testing.assert_allclose(distance[0, 4:], 1 - np.cos(angles[4:]), atol=0.1)  # these as their codes tell
    assert np.flatnonzero(np.isinf(cost[0])).tolist() == [2]


def test_what_is_not_on_the_shortlist_does_not_lead():
    """200 equal encounters, and codes that tell that all others are nearer than the one that was compared."""
    known = gallery(*((f"animal {i:03}", [1.0, 1.0]) for i in range(200)))
    wrong = coded(known, 1)
    wrong.codes[:] = codes(np.array([[1.0, 0.0]]))  # the query's own
    distance, _ = wrong.costs(np.array([[1.0, 0.0]]), np.ones((1, 200), bool))
    assert distance[0].min() == distance[0, 0] == pytest.approx(1 - 0.5**0.5, abs=1e-3)


def test_ties_between_encounters_and_individuals():
    known = gallery(("Bo", [1, 0]), ("Aino", [1, 0]), ("Aino", [1, 0]))
    found = rank(["q"], np.array([[1.0, 0.0]]), known)
    assert found.candidates["individual"].to_pylist() == ["Aino", "Bo"]
    assert found.nearest.tolist() == [1, 0]


@pytest.mark.parametrize(("queries", "known"), [(0, 1), (1, 0), (0, 0)])
def test_nothing_to_search(queries, known):
    some = gallery(*[("Aino", [1.0, 0.0])] * known)
    found = rank(["q"] * queries, np.ones((queries, 2)), some)
    assert found.candidates.num_rows == len(found.nearest) == 0
    assert found.candidates.schema == records.CANDIDATES


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32))
def test_blocks_change_nothing_and_distances_are_right(n, e, block, seed):
    rng = np.random.default_rng(seed)
    queries, known = rng.standard_normal((n, 6)), rng.standard_normal((e, 6)).astype(np.float16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "BLOCK", block)
        found = distances(queries, known)
    unit = [x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True) for x in (queries, known)]
    np.testing.assert_allclose(found, 1 - unit[0] @ unit[1].T, atol=1e-5)
    individuals = rng.choice(["Aino", "Bo", "Cia"], e).tolist()
    owners = Owners.of(individuals)
    best, nearest = owners.least(found)
    assert owners.names == sorted(set(individuals))
    for k, name in enumerate(owners.names):
        members = [i for i, other in enumerate(individuals) if other == name]
        np.testing.assert_array_equal(best[:, k], found[:, members].min(1))
        assert set(nearest[:, k].tolist()) <= set(members)


def test_evidence_goes_before_the_distance():
    known = gallery(("Aino", [1, 0]), ("Bo", [0, 1]), ("Bo", [1, 1]), ("Cia", [-1, 0]), ("Dora", [1, 0.1]))
    evidence = Evidence(np.array([0, 0.5, 0.2, 3.0, 9.0]), np.array([0, 0, 4, 20, 50]))
    itself = np.array([[False, False, False, False, True]])
    asked = []

    class Found:
        config = VerifyConfig()

        def __call__(self, crops, compared):
            asked.append((crops, compared.tolist()))
            return evidence

    found = rank(["q"], np.array([[1.0, 0.0]]), known, exclude=itself, crops=[["crop"]], verifier=Found())
    assert asked == [(["crop"], [True, True, True, True, False])]
    assert [(r["individual"], r["inliers"]) for r in found.candidates.to_pylist()] == [
        ("Cia", 20),
        ("Bo", 0),
        ("Aino", 0),
    ]
    # Each with the distance of the encounter that names it, not of the nearest one.
    assert found.candidates["distance"].to_pylist() == pytest.approx([2, 1, 0], abs=1e-6)
    assert found.nearest.tolist() == [3, 1, 0]


def test_only_the_shortlist_is_verified():
    """Of three individuals the two nearest ones, with all their encounters."""
    known = gallery(("Bo", [1, 1]), ("Aino", [1, 0]), ("Cia", [-1, 0]), ("Bo", [-1, 0]))
    asked = []

    class Found:
        config = VerifyConfig(shortlist=2)

        def __call__(self, crops, compared):
            asked.append(compared.tolist())
            return Evidence(np.array([1.0, 0, 0, 2.0]), np.array([4, 0, 0, 9]))

    found = compare(np.array([[1.0, 0.0]]), known, np.ones((1, 4), bool), [["crop"]], Found())
    assert asked == [[True, True, False, True]]
    assert found.names == ["Aino", "Bo", "Cia"]
    assert (found.encounter.tolist(), found.inliers.tolist()) == ([[1, 3, 2]], [[0, 9, 0]])


def test_the_most_probable_ones_first():
    known = gallery(("Aino", [1, 0]), ("Bo", [0, 1]))
    found = compare(np.array([[1.0, 0.1]]), known, np.ones((1, 2), bool))
    rows = search.rank(["q"], found, 5, np.array([[0.2, 0.5]]), np.array([0.3])).candidates.to_pylist()
    assert [(r["individual"], r["probability"], r["new_probability"]) for r in rows] == [
        ("Bo", pytest.approx(0.5), pytest.approx(0.3)), ("Aino", pytest.approx(0.2), pytest.approx(0.3)),
    ]  # fmt: skip


def test_of_equally_probable_ones_the_nearest_leads():
    """Cia is the most probable; nothing speaks for the others but that Bo is nearer. Of two queries each has its own
    order, and who was not compared has no rank."""
    known = gallery(("Aino", [0, 1]), ("Bo", [1, 0]), ("Cia", [-1, 0.1]), ("Dan", [1, 1]))
    allowed = np.array([[True, True, True, False], [True, True, True, True]])
    found = compare(np.array([[1.0, 0.1], [0.1, 1.0]]), known, allowed)
    shares = np.array([[0.1, 0.1, 0.5, 0.0], [0.1, 0.1, 0.1, 0.1]])
    rows = search.rank(["p", "q"], found, 5, shares, np.array([0.3, 0.6])).candidates.to_pylist()
    assert [r["individual"] for r in rows if r["encounter_id"] == "p"] == ["Cia", "Bo", "Aino"]
    assert [r["individual"] for r in rows if r["encounter_id"] == "q"] == ["Aino", "Dan", "Bo", "Cia"]


def test_a_vector_of_zeros_is_compared_with_nothing():
    known = gallery(("Aino", [1, 0]), ("Bo", [0, 0]))
    found = compare(np.array([[1.0, 0.0], [0.0, 0.0]]), known, np.ones((2, 2), bool))
    assert np.isfinite(found.cost).tolist() == [[True, False], [False, False]]
