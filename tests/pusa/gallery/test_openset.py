"""Open-set figures, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pusa.gallery.openset import Answers, calibration_error, draw, figures, interval, reliability

# Four queries, individuals 0 and 1; the last two show animals that the gallery does not have.
SHARES = np.array([[0.7, 0.1], [0.3, 0.4], [0.05, 0.05], [0.5, 0.2]])
NEW = 1 - SHARES.sum(axis=1)  # .2, .3, .9, .3
TRUE = np.array([0, 0, -1, -1])
ANIMALS = np.array(["Aino", "Aino", "x", "y"])
ANSWERS = Answers.of(SHARES, NEW, TRUE, ANIMALS)


def test_answers():
    assert ANSWERS.answer.tolist() == [0, 1, -1, 0]
    np.testing.assert_allclose(ANSWERS.probability, [0.7, 0.4, 0.9, 0.5])
    np.testing.assert_allclose(ANSWERS.individual_probability, [0.7, 0.4, 0.05, 0.5])


def test_figures_by_hand():
    found = figures(ANSWERS, threshold=0.45)
    assert found["baks"] == 0.5  # one of Aino's two
    assert found["baus"] == 0.5  # x is called new, y is not
    assert found["auc_new"] == pytest.approx(0.875)  # of 4 pairs new/known: .9 beats both, .3 beats .2 and ties with .3
    assert found["accepted"] == 0.5  # the first and the last
    assert found["misidentified"] == 0.5  # the last
    assert (found["queries"], found["new"]) == (4, 2)


def test_each_animal_weighs_the_same():
    animal = np.array(["a", "a", "a", "b"])
    shares = np.array([[0.9, 0], [0.9, 0], [0.9, 0], [0.9, 0]])
    found = figures(Answers.of(shares, 1 - shares.sum(1), np.array([0, 0, 0, 1]), animal), 0.5)
    assert found["baks"] == 0.5  # not 3 of 4
    assert np.isnan(found["baus"])
    assert np.isnan(found["auc_new"])
    assert found["misidentified"] == 0.25


def test_calibration_error_by_hand():
    """Ten answers a bin of one half: 20 of them, of which in each pair one is right."""
    p = np.repeat(np.linspace(0.1, 1.0, 10), 2)
    right = np.tile([True, False], 10)
    assert [share for _, share, _ in reliability(p, right)] == [0.5] * 10
    assert calibration_error(p, right) == pytest.approx(np.abs(np.linspace(0.1, 1.0, 10) - 0.5).mean())
    assert calibration_error(np.array([]), np.array([], bool)) == 0


def test_interval_holds_the_figure_and_the_diagram_is_drawn(tmp_path):
    low, high = interval("accepted", ANSWERS, 0.45)
    assert low <= 0.5 <= high
    assert (low, high) == interval("accepted", ANSWERS, 0.45)
    draw(ANSWERS, str(tmp_path / "r.png"))
    assert (tmp_path / "r.png").stat().st_size > 1000
