"""The mixture: against scikit-learn from the same start, against the formula, re-seeding."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from pusa.fisher import mixture as module
from pusa.fisher.mixture import Mixture, expectation_maximisation, maximise, start, summed


def clusters(n: int = 2000, size: int = 10, k: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((k, size)) * 0.3
    return (centres[rng.integers(0, k, n)] + 0.1 * rng.standard_normal((n, size))).astype(np.float32)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 300)  # so that every test adds up several chunks, the last one shorter


def test_em_equals_scikit_learn_from_the_same_start():
    x = clusters(size=4)
    rng = np.random.default_rng(1)
    means = x[rng.choice(len(x), 8, replace=False)]
    sigma = x.var(0)
    reference = GaussianMixture(
        8, covariance_type="diag", reg_covar=0, tol=0, max_iter=15, means_init=means,
        weights_init=np.full(8, 1 / 8), precisions_init=np.tile(1 / sigma, (8, 1)),
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning):
        reference.fit(x)
    begin = Mixture(torch.full((8,), 1 / 8), torch.from_numpy(means), torch.from_numpy(np.tile(sigma, (8, 1))))
    history = []
    floor = torch.full((4,), 1e-9)
    found = expectation_maximisation(
        lambda m: summed(m, torch.from_numpy(x)), begin, 15, -1, floor, rng, history.append
    )
    ours = summed(found, torch.from_numpy(x)).log_likelihood / len(x)
    assert ours == pytest.approx(reference.score(x), abs=1e-3)
    np.testing.assert_allclose(found.means, reference.means_, atol=1e-3)
    np.testing.assert_allclose(found.variances, reference.covariances_, atol=1e-3)
    np.testing.assert_allclose(found.weights, reference.weights_, atol=1e-3)
    likelihoods = [h["log_likelihood"] for h in history]
    assert [h["iteration"] for h in history] == list(range(1, 16))
    assert all(b >= a - 1e-5 for a, b in itertools.pairwise(likelihoods))


def test_sums_leave_out_only_what_does_not_show():
    """Posteriors from even to one-sided: the sparse sums are the dense ones, but for shares of a millionth."""
    rng = np.random.default_rng(0)
    g = torch.from_numpy(rng.dirichlet(np.full(16, 0.05), 500)).float()
    x = torch.from_numpy(rng.standard_normal((500, 3))).float()
    assert (g <= module.LEAST).float().mean() > 0.3
    dense = g.double().T @ torch.cat([x, x * x, torch.ones(500, 1)], 1).double()
    rows, sums, log_likelihood = module.expected(g.log(), x, [500])
    assert rows.tolist() == list(range(16))
    assert (sums - dense).abs().max() < 500 * module.LEAST
    assert log_likelihood == pytest.approx(0, abs=1e-3)  # g adds up to 1


def test_sums_of_several_sets_by_hand():
    # Three sets of 2, 0 and 1 patches, each patch certain of one of two components, which has the weight e^-1.
    joint = torch.tensor([[-1.0, -50.0], [-50.0, -1.0], [-50.0, -1.0]])
    rows, sums, log_likelihood = module.expected(joint, torch.tensor([[2.0], [3.0], [5.0]]), [2, 0, 1])
    assert rows.tolist() == [0, 1, 5]  # set 0: both; set 2: component 1 = 2 * 2 + 1
    assert sums.tolist() == [[2, 4, 1], [3, 9, 1], [5, 25, 1]]
    assert log_likelihood == -3


def test_posteriors_and_density_equal_the_formula():
    rng = np.random.default_rng(2)
    w, m, v = rng.dirichlet(np.ones(3)), rng.standard_normal((3, 2)), rng.uniform(0.5, 2, (3, 2))
    x = rng.standard_normal((5, 2))
    joint = w * np.prod(np.exp(-((x[:, None] - m) ** 2) / 2 / v) / np.sqrt(2 * np.pi * v), 2)
    mixture = Mixture(*(torch.from_numpy(a).float() for a in (w, m, v)))
    np.testing.assert_allclose(mixture.joint(torch.from_numpy(x).float()), np.log(joint), atol=1e-5)
    posteriors = joint / joint.sum(1, keepdims=True)
    found = mixture.statistics(torch.from_numpy(x).float())
    np.testing.assert_allclose(found.counts, posteriors.sum(0), atol=1e-5)
    np.testing.assert_allclose(found.sums, posteriors.T @ x, atol=1e-5)
    np.testing.assert_allclose(found.squares, posteriors.T @ x**2, atol=1e-5)
    assert found.log_likelihood == pytest.approx(np.log(joint.sum(1)).sum(), abs=1e-4)


def test_a_component_that_lost_its_patches_comes_back():
    x = torch.from_numpy(clusters(size=4))
    floor = torch.full((4,), 1e-4)
    far = torch.tensor([[0.0] * 4, [100.0] * 4])
    statistics = Mixture(torch.tensor([0.5, 0.5]), far, torch.ones(2, 4)).statistics(x)
    mixture, reseeded = maximise(statistics, floor, np.random.default_rng(0))
    assert reseeded == 1
    torch.testing.assert_close(mixture.weights, torch.tensor([0.5, 0.5]))
    assert (mixture.means[1] - mixture.means[0]).abs().allclose(0.5 * mixture.variances[0].sqrt())
    found = expectation_maximisation(lambda m: summed(m, x), mixture, 20, 1e-4, floor, np.random.default_rng(0))
    assert found.weights.min() > 0.1  # it holds patches of its own again


def test_start_holds_every_cluster():
    x = torch.from_numpy(clusters(size=4) + np.repeat(np.arange(2), 1000)[:, None].astype(np.float32) * 9)
    found = start(x, 2, torch.full((4,), 1e-4), np.random.default_rng(0))
    halves = torch.stack([x[:1000].mean(0), x[1000:].mean(0)])
    order = found.means[:, 0].argsort()
    torch.testing.assert_close(found.means[order], halves, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.weights, torch.tensor([0.5, 0.5]))
