"""Probabilities: softmax by hand, a law that the fit must find again, thresholds, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusa.errors import UserError
from pusa.gallery.calibration import Calibration, Cases, fit, signs
from pusa.gallery.search import Comparison
from pusa.weights import STARTER_DIR

LAW = Calibration(lead=1.0, inliers=0.5, nearness=0.7, new=0.5, patches=0.3, queries=0)


def comparison(distance, score=None, inliers=None, cost=None) -> Comparison:
    distance = np.array(distance, float)
    names = [f"animal {i}" for i in range(distance.shape[1])]
    arrays = [None if x is None else np.array(x) for x in (score, inliers)]
    return Comparison(names, distance if cost is None else np.array(cost, float), np.zeros(distance.shape, int),
                      distance, *arrays)  # fmt: skip


def drawn(n: int, individuals: int, rng: np.random.Generator, law: Calibration = LAW) -> Cases:
    """Queries whose answer is drawn from the probabilities of a law."""
    found = comparison(
        rng.normal(1, 0.1, (n, individuals)),
        rng.exponential(1, (n, individuals)),
        rng.poisson(3, (n, individuals)),
    )
    patches = rng.integers(1, 300, n)
    shares = np.column_stack(law.probabilities(found, patches))
    answer = np.array([rng.choice(individuals + 1, p=p) for p in shares])
    return Cases(
        found, patches, np.where(answer == individuals, -1, answer), np.array([f"a{i % 40}" for i in range(n)])
    )


def test_softmax_by_hand():
    """Two individuals, of which only the score and the number of patches count."""
    law = Calibration(lead=1, inliers=0, nearness=0, new=0, patches=1, queries=0)
    found = comparison([[0.9, 1.1]], score=[[3, 0]], inliers=[[7, 0]])
    # e^u: log 4 gives 4; the second is behind the first: 1; new: 1 + 4 = 5.
    shares, new = law.probabilities(found, np.array([4]))
    np.testing.assert_allclose(shares, [[4 / 10, 1 / 10]], rtol=1e-6)
    np.testing.assert_allclose(new, [5 / 10], rtol=1e-6)
    # A third of all queries new instead of one half: odds of "new" halve. 4, 1, 2.5.
    shares, new = law.probabilities(found, np.array([4]), new_share=1 / 3)
    np.testing.assert_allclose(shares, [[4 / 7.5, 1 / 7.5]], rtol=1e-6)
    # Of two individuals nothing is known of how distances spread.
    np.testing.assert_allclose(signs(found), [[[np.log(4), np.log(8), 0], [0, 0, 0]]])


def test_the_lead_does_not_depend_on_how_many_there_are():
    """One individual with a score of 7 among few or many of 1: (1 + 7) / (1 + 1)."""
    for n in (3, 60):
        assert signs(comparison([[1.0] * (n + 1)], score=[[7] + [1] * n]))[0, 0, 0] == pytest.approx(np.log(4))


def test_nearness_by_hand():
    """At .5, .9, 1.1 and 1.0. The others of the first: mean 1, deviation .0816: z = .5 / .0823. Of the second: mean
    .867, nearer than that it is not."""
    found = signs(comparison([[0.5, 0.9, 1.1, 1.0]]))[0, :, 2]
    np.testing.assert_allclose(found[0], np.log1p(0.5 / np.hypot(np.std([0.9, 1.1, 1.0]), 0.01)))
    np.testing.assert_array_equal(found[1:], 0)


def test_nearness_does_not_depend_on_how_many_there_are():
    """One clear individual among few or many strangers of the same kind."""
    few, many = ([0.5] + [0.95, 1.05] * n for n in (3, 50))
    a, b = (signs(comparison([row]))[0, 0, 2] for row in (few, many))
    assert a == pytest.approx(b, rel=0.02)


def test_what_was_not_compared_has_no_probability():
    found = comparison([[0.9, 1.1, 0.2]], cost=[[0.9, 1.1, np.inf]])
    shares, new = LAW.probabilities(found, np.array([4]))
    assert shares[0, 2] == 0
    np.testing.assert_allclose(shares.sum() + new.sum(), 1)
    assert signs(found)[0, 2].tolist() == [0, 0, 0]
    further = comparison([[0.9, 1.1, 1.3]])
    with_it = comparison([[0.9, 1.1, 1.3, 0.2]], cost=[[0.9, 1.1, 1.3, np.inf]])
    np.testing.assert_allclose(signs(with_it)[:, :3], signs(further))  # nor has it a say in the mean


def test_one_individual_and_equal_distances():
    for found in (comparison([[0.5]]), comparison([[0.5, 0.5]])):
        np.testing.assert_array_equal(signs(found), 0)
        assert np.isfinite(LAW.probabilities(found, np.array([0]))[0]).all()


def test_the_fit_finds_the_law_again():
    rng = np.random.default_rng(0)
    found = fit([drawn(3000, 8, rng), drawn(1000, 3, rng)])
    for name in ("lead", "inliers", "nearness", "patches"):
        assert getattr(found, name) == pytest.approx(getattr(LAW, name), abs=0.15), name
    assert found.queries == 4000
    assert len(found.held_out) == 4000
    # Calibrated: of answers with probabilities around p, about the share p is right.
    p, right = np.array(found.held_out, float).T
    for low in (0.2, 0.3, 0.4):
        inside = (p >= low) & (p < low + 0.1)
        assert inside.sum() > 100
        assert right[inside].mean() == pytest.approx(p[inside].mean(), abs=0.08)


def test_no_sign_speaks_against_an_individual():
    """Where by chance the right ones lie further off, the distance says nothing; the other signs still do."""
    cases = drawn(300, 8, np.random.default_rng(0))
    farther = replace(cases, found=replace(cases.found, distance=-cases.found.distance))
    found = fit([farther])
    assert found.nearness == 0
    assert min(found.lead, found.inliers) > 0


def test_no_query_is_judged_by_a_fit_to_its_own_animal():
    """An answer that is right for one animal only cannot be learnt from the others: held out, it stays improbable."""
    n = 60
    score = np.zeros((n, 2))
    score[:, 0] = 5
    animal = np.array(["odd"] * 12 + [f"a{i}" for i in range(n - 12)])
    true = np.where(animal == "odd", 0, -1)
    found = fit([Cases(comparison(np.ones((n, 2)), score), np.full(n, 9), true, animal)])
    # One fit never saw an individual that was there; the others saw one in five queries.
    assert sum(p < 0.05 for p, _ in found.held_out) >= 12
    assert sum(p > 0.15 for p, _ in found.held_out) >= 30


@pytest.mark.parametrize(
    ("tolerated", "threshold"),
    [
        # likeliest first: right, right, wrong, right, wrong (two at .5)
        (0.0, 0.8),
        (0.25, 0.5001),  # three of four
        (0.3, 0.5001),  # the two at .5 come together: two of six would be wrong
        (0.34, 0.5),
        (1.0, 0.5),
    ],
)
def test_threshold(tolerated, threshold):
    held_out = ((0.9, True), (0.8, True), (0.7, False), (0.5001, True), (0.5, True), (0.5, False))
    law = LAW.model_copy(update={"held_out": held_out})
    assert law.threshold(tolerated) == threshold


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=30), st.floats(0, 1))
def test_law_of_the_threshold(held_out, tolerated):
    """Of those at the threshold or above at most the tolerated share is wrong."""
    threshold = LAW.model_copy(update={"held_out": tuple(held_out)}).threshold(tolerated)
    taken = [right for p, right in held_out if p >= threshold and threshold < 1]
    assert sum(not right for right in taken) <= tolerated * len(taken) + 1e-9


def test_too_few_to_fit():
    with pytest.raises(UserError, match=r"19 encounters .* too few"):
        fit([drawn(19, 3, np.random.default_rng(0))])


def test_saved_and_loaded(tmp_path):
    law = LAW.model_copy(update={"held_out": ((0.5, True),), "source": "a test"})
    law.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == law
    (tmp_path / "bad.json").write_text('{"score": 1}')
    with pytest.raises(UserError, match="does not hold what `pusa gallery calibrate` writes"):
        Calibration.load(tmp_path / "bad.json")
    with pytest.raises(UserError, match="Cannot read"):
        Calibration.load(tmp_path / "gone.json")


def test_a_damaged_starter_is_refused(tmp_path, monkeypatch):
    assert Calibration.starter().queries == 606
    for name in ("index.json", "calibration.json"):
        (tmp_path / name).write_bytes((STARTER_DIR / name).read_bytes())
    (tmp_path / "calibration.json").write_text((tmp_path / "calibration.json").read_text().replace("true", "false", 1))
    monkeypatch.setattr("pusa.weights.STARTER_DIR", tmp_path)
    with pytest.raises(UserError, match="is damaged"):
        Calibration.starter()
