"""Pairs by search, their signs worked by hand, and what they weigh."""

from __future__ import annotations

import numpy as np
import pytest

from pusa.catalogue.calibration import Calibrations, PairCalibration, frequency
from pusa.catalogue.pairs import Pairs, ProposeConfig, codes, nearest, projection, propose
from pusa.errors import UserError


def test_both_directions_of_a_pair_are_one_of_the_larger_sign():
    made = Pairs.of(np.array([2, 0, 1]), np.array([0, 2, 0]), np.array([[1, 5, 0], [2, 3, 0], [7, 7, 7]], float))
    assert made.at.tolist() == [[0, 1], [0, 2]]
    assert made.signs.tolist() == [[7, 7, 7], [2, 5, 0]]
    assert made.without({(0, 1)}).at.tolist() == [[0, 2]]


def test_nearest_is_exact_and_passes_over_what_has_no_vector():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1300, 8)).astype(np.float32)  # three blocks
    x[7] = 0
    places, signs = nearest(x, 5)
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    cosines[:, 7] = -2
    expected = np.argsort(-cosines, axis=1)[:, :5]
    others = np.arange(1300) != 7
    assert (places[others] == expected[others]).all()
    assert (places[7] == -1).all()
    assert (np.diff(signs[others], axis=1) <= 1e-6).all()


@pytest.mark.parametrize(("n", "k", "width"), [(0, 3, 0), (1, 3, 0), (3, 5, 2)])
def test_fewer_encounters_than_neighbours(n, k, width):
    assert nearest(np.ones((n, 4), np.float32), k)[0].shape == (n, width)


def test_proposals_without_verification_are_the_nearest():
    angles = np.radians([0, 5, 90, 96, 200])
    made = propose(np.column_stack([np.cos(angles), np.sin(angles)]), ProposeConfig(nearest=1, verification=None))
    assert made.at.tolist() == [[0, 1], [2, 3], [3, 4]]
    assert (made.signs[:, :2] == 0).all()
    assert made.signs[0, 2] > made.signs[2, 2]  # 5 degrees are nearer than 104


def test_codes_keep_the_cosines_of_what_they_were_fitted_to():
    x = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
    made = codes([x[:4], x[4:]], projection(x, 256))
    assert made.shape == (6, 6)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert np.allclose(made @ made.T, unit @ unit.T, atol=1e-4)
    assert codes([x], projection(x, 2)).shape == (6, 2)


def known(n: int, share: float, recognised: float, seed: int = 0):
    """Signs of n pairs; a `share` is of one animal, and of these the recognised ones are 4 higher."""
    rng = np.random.default_rng(seed)
    same = rng.random(n) < share
    signs = np.zeros((n, 3))
    signs[:, 0] = rng.normal(0, 1, n) + 4 * (same & (rng.random(n) < recognised))
    return signs, same


def test_what_a_pair_weighs_is_the_ratio_of_its_likelihoods():
    """Normal distributions 4 apart: log of the ratio is 4 x - 8 where recognised; to find nothing says log(1 - .6)."""
    signs, same = known(200_000, 0.05, 0.6)
    fitted = PairCalibration.fit(signs, same)
    x = np.array([[-3.0, 0, 0], [0, 0, 0], [2, 0, 0], [4, 0, 0]])
    expected = np.log(0.4 + 0.6 * np.exp(4 * x[:, 0] - 8))
    assert fitted.weights(x) == pytest.approx(expected, abs=0.25)
    assert (fitted.inliers, fitted.nearness) == (0, 0)  # never measured


def test_no_sign_speaks_against_a_pair():
    """The second sign is higher, by chance, where the animals are two."""
    signs, same = known(20_000, 0.05, 0.6)
    signs[:, 1] = np.random.default_rng(1).exponential(1, len(same)) * ~same
    fitted = PairCalibration.fit(signs, same)
    assert fitted.inliers == 0
    assert fitted.prominence > 1


def test_how_frequent_pairs_of_one_animal_are_is_no_part_of_the_weight():
    """Fitted where 5 % are of one animal, the weights find that 1 % are so elsewhere."""
    fitted = PairCalibration.fit(*known(100_000, 0.05, 0.6))
    signs, same = known(100_000, 0.01, 0.6, seed=1)
    assert frequency(fitted.weights(signs), len(signs)) == pytest.approx(same.mean(), rel=0.15)
    # Pairs that nobody compared count as pairs of two animals.
    assert frequency(fitted.weights(signs), 2 * len(signs)) < 0.007


def test_too_few_pairs_to_fit():
    with pytest.raises(UserError, match="at least 20 pairs of encounters of one animal"):
        PairCalibration.fit(np.zeros((30, 3)), np.arange(30) < 5)


def test_a_file_that_is_no_calibration(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="does not hold what `pusa catalogue calibrate` writes"):
        Calibrations.load(tmp_path / "x.json")
    with pytest.raises(UserError, match="Cannot read"):
        Calibrations.load(tmp_path / "y.json")
