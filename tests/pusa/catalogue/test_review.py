"""What is asked, in which order, and when the review ends: graphs worked by hand, and reviewers who err."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusa.catalogue import simulate
from pusa.catalogue.clusters import Clusters
from pusa.catalogue.evidence import Evidence, flanks
from pusa.catalogue.pairs import Pairs
from pusa.catalogue.review import Review, ReviewConfig

COST = 4.0
SURE = math.log(0.98 / 0.02)  # 3.9: what an answer weighs


def review(size, weights, sides=None, apart=(), cost=COST, **settings) -> Review:
    found = Evidence(
        size,
        np.array(list(weights), int).reshape(-1, 2),
        np.array(list(weights.values()), float),
        flanks=None if sides is None else flanks(sides),
        apart=apart,
    )
    clusters = Clusters(found, cost)
    clusters.agglomerate()
    return Review(clusters, ReviewConfig(**{"margin": 2.0, "learn": False} | settings))


def groups(asking: Review) -> set[frozenset[int]]:
    return {frozenset(m) for m in asking.clusters.members.values()}


def test_the_least_certain_change_is_asked_about_first():
    """Joined with 4.5 - 4 = .5 to spare; left apart by 4 - 3 = 1; certain: 9 - 4 = 5."""
    asking = review(6, {(0, 1): 4.5, (2, 3): 3.0, (4, 5): 9.0})
    first = asking.question()
    assert (first.pair, first.change.kind) == ((0, 1), "split")
    assert first.probability == pytest.approx(1 / (1 + math.exp(0.5)))
    asking.answer((0, 1), "same")  # .5 + 3.9: settled
    second = asking.question()
    assert (second.pair, second.change.kind) == ((2, 3), "merge")
    asking.answer((2, 3), "different")
    assert asking.question() is None
    assert groups(asking) == {frozenset({0, 1}), frozenset({2}), frozenset({3}), frozenset({4, 5})}


def test_what_follows_is_not_asked():
    """Two pairs, two links between them of 1.5 each: one question about one of the links settles all four."""
    asking = review(4, {(0, 1): 9.0, (2, 3): 9.0, (0, 2): 1.5, (1, 3): 1.4})
    assert asking.question().pair == (0, 2)  # the stronger link
    asking.answer((0, 2), "same")  # 2.9 + 3.9 - 4 = 2.8 > 2: no second look
    assert asking.question() is None
    assert groups(asking) == {frozenset({0, 1, 2, 3})}


def test_an_answer_that_only_one_look_carries_is_looked_at_again():
    """It looked like two animals (4 - 2.05 = 1.95 to spare); one says it is one: 2.05 + 3.89 - 4 = 1.94 to spare."""
    asking = review(2, {(0, 1): 2.05}, margin=2.0)
    asking.answer((0, 1), "same")
    assert groups(asking) == {frozenset({0, 1})}
    assert asking.question().change.kind == "split"  # the second look
    asking.answer((0, 1), "different")  # the first answer was wrong: as before
    assert groups(asking) == {frozenset({0}), frozenset({1})}
    assert asking.question().change.kind == "merge"
    asking.answer((0, 1), "different")
    assert asking.question() is None


def test_the_second_look_is_at_another_pair_where_there_is_one():
    asking = review(3, {(0, 1): 9.0, (0, 2): 2.05, (1, 2): 0.0})
    assert asking.question().pair == (0, 2)
    asking.answer((0, 2), "same")
    assert asking.question().pair == (1, 2)


def test_answers_move_the_odds_of_all_pairs():
    """Six pairs with odds of -1 are one animal, though a quarter was expected: the seventh is joined unasked."""
    weights = {(2 * k, 2 * k + 1): -1.0 - k / 100 for k in range(7)}
    asking = review(14, weights, cost=0.01, learn=True)
    for _ in range(6):
        asking.answer(asking.question().pair, "same")
    assert asking.clusters.evidence.shift > 1.1
    assert len(groups(asking)) == 7
    for k in range(7):
        asking.answer((2 * k, 2 * k + 1), "different")
    assert asking.clusters.evidence.shift < 1.1


def test_a_pair_that_was_never_compared_is_no_even_chance():
    """Of the four links between two pairs one was compared: it says two animals."""
    asking = review(4, {(0, 1): 9.0, (2, 3): 9.0, (0, 2): -1.5}, cost=0.01)
    question = asking.question()
    assert question.pair == (0, 2)
    assert question.odds == pytest.approx(-1.51)


def test_no_answer_is_asked_about_for_ever():
    asking = review(2, {(0, 1): 3.9}, looks=3)
    for _ in range(3):
        assert asking.question().pair == (0, 1)
        asking.answer((0, 1), "unknown")
    assert asking.question() is None


def test_what_is_forbidden_or_shows_other_flanks_is_not_asked():
    assert review(2, {(0, 1): 3.9}, apart=[(0, 1)]).question() is None
    assert review(2, {(0, 1): 3.9}, sides=[["left"], ["right"]]).question() is None


def test_a_wrong_merge_is_split_again():
    """0-1 and 2-3 are joined by a wrong answer; two other looks at the same cut take them apart."""
    asking = review(4, {(0, 1): 9.0, (2, 3): 9.0, (0, 2): 2.0, (1, 3): 0.0, (0, 3): 0.0, (1, 2): 0.0})
    asking.answer((0, 2), "same")
    assert len(groups(asking)) == 1
    while question := asking.question():
        asking.answer(question.pair, "different")
    assert groups(asking) == {frozenset({0, 1}), frozenset({2, 3})}


@given(st.integers(0, 2**16), st.sampled_from([0.0, 0.05, 0.5]))
def test_every_review_ends(seed, error):
    """Also with a reviewer who says anything; each change is asked about a few times at most."""
    rng = np.random.default_rng(seed)
    individual = rng.integers(3, size=7).astype(str)
    at = [(a, b) for a in range(7) for b in range(a + 1, 7)]
    asking = review(7, {p: float(rng.normal(4 if individual[p[0]] == individual[p[1]] else 1, 2)) for p in at})
    reviewer = simulate.Reviewer(individual, error, seed=seed)
    simulate.review(asking, reviewer)
    assert asking.question() is None
    assert len(reviewer.asked) < 200


def test_a_reviewer_without_error_corrects_everything_that_is_asked():
    rng = np.random.default_rng(0)
    individual = np.repeat(np.arange(5), 4).astype(str)
    at = [(a, b) for a in range(20) for b in range(a + 1, 20)]
    weights = {p: float(rng.normal(4 if individual[p[0]] == individual[p[1]] else -4, 3)) for p in at}
    asking = review(20, weights, margin=8.0)
    reviewer = simulate.Reviewer(individual, 0.0)
    simulate.review(asking, reviewer)
    assert simulate.figures(individual, asking.clusters.label, reviewer.asked).adjusted_rand == 1
    assert len(reviewer.asked) < 30  # of 190 pairs


def test_the_simulated_reviewer():
    shown = flanks([["left"], ["right"], ["left"], ["left"]])
    exact = simulate.Reviewer(["A", "A", "A", "B"], 0.0, shown)
    assert [exact(0, 1), exact(0, 2), exact(0, 3)] == ["unknown", "same", "different"]
    erring = simulate.Reviewer(["A", "A", "B"], 0.25, seed=1)
    answers = [erring(0, 1) for _ in range(400)]
    assert 0.2 < answers.count("different") / 400 < 0.3
    assert len(erring.asked) == 400


def test_the_two_ways_it_is_compared_with():
    pairs = Pairs(np.array([[0, 1], [0, 2], [1, 2], [2, 3]], np.int32), np.zeros((4, 3), np.float32))
    weights = np.array([5.0, 1.0, 4.0, 3.0])
    assert simulate.by_threshold(4, pairs, weights, 3.5) == [0, 0, 0, 1]
    reviewer = simulate.Reviewer(["A", "A", "A", "B"], 0.0)
    # 0-1, then 1-2; 0-2 follows; 2-3 is said to be two.
    assert simulate.by_similarity(4, pairs, weights, reviewer, 9) == [0, 0, 0, 1]
    assert reviewer.asked == [(0, 1), (1, 2), (2, 3)]
    figures = simulate.figures(reviewer.individual, [0, 1, 1, 1], reviewer.asked)
    assert (figures.questions, figures.encounters, figures.clusters) == (3, 4, 2)
