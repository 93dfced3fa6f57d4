"""Fisher vectors: against the formula in float64 and scikit-image; batching and order change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.feature import fisher_vector
from sklearn.mixture import GaussianMixture

from pusa.errors import UserError
from pusa.fisher import encode
from pusa.fisher.codebook import Codebook, Mixture
from pusa.fisher.encode import fisher_vectors

K, D, C = 5, 3, 6


def random_codebook(k: int = K, d: int = D, c: int = C, seed: int = 0) -> Codebook:
    rng = np.random.default_rng(seed)
    axes = rng.standard_normal((c, d)) / np.sqrt(c)
    mixture = Mixture(
        torch.from_numpy(rng.dirichlet(np.full(k, 3.0))).float(),
        torch.from_numpy(rng.standard_normal((k, d)) * 0.1).float(),
        torch.from_numpy(rng.uniform(0.005, 0.03, (k, d))).float(),
    )
    return Codebook(torch.from_numpy(rng.standard_normal(c) * 0.1).float(), torch.from_numpy(axes).float(), mixture)


def patches(n: int, seed: int, c: int = C) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, c)) * 0.15).astype(np.float32)


def formula(codebook: Codebook, embeddings: np.ndarray) -> np.ndarray:
    """Method, section 4, term by term in float64."""
    w, m, v = (
        t.numpy().astype(float) for t in (codebook.mixture.weights, codebook.mixture.means, codebook.mixture.variances)
    )
    s = np.sqrt(v)
    x = (embeddings.astype(float) - codebook.center.numpy().astype(float)) @ codebook.axes.numpy().astype(float)
    count = len(x)
    mean, deviation = np.zeros(m.shape), np.zeros(m.shape)
    for x_t in x:
        log_joint = np.log(w) - 0.5 * (((x_t - m) / s) ** 2 + np.log(2 * np.pi * v)).sum(1)
        g = np.exp(log_joint - log_joint.max())
        g /= g.sum()
        mean += g[:, None] * (x_t - m) / s
        deviation += g[:, None] * ((x_t - m) ** 2 / v - 1)
    mean /= count * np.sqrt(w)[:, None]
    deviation /= count * np.sqrt(2 * w)[:, None]
    vector = np.concatenate([mean.ravel(), deviation.ravel()])
    vector = np.sign(vector) * np.sqrt(np.abs(vector))
    return vector / np.linalg.norm(vector)


def test_equals_the_formula():
    codebook = random_codebook()
    encounters = [patches(n, n) for n in (1, 2, 7, 40)]
    found = fisher_vectors(codebook, encounters)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [formula(codebook, e) for e in encounters], atol=1e-4)


def test_equals_the_formula_in_the_paper_s_size():
    codebook = random_codebook(512, 128, 512)
    encounter = patches(20, 1, 512) / 3
    np.testing.assert_allclose(fisher_vectors(codebook, [encounter])[0], formula(codebook, encounter), atol=1e-4)


def test_equals_scikit_image():
    codebook = random_codebook()
    gmm = GaussianMixture(K, covariance_type="diag")
    gmm.weights_, gmm.means_, gmm.covariances_ = (
        t.numpy().astype(float) for t in (codebook.mixture.weights, codebook.mixture.means, codebook.mixture.variances)
    )
    gmm.weights_ /= gmm.weights_.sum()
    gmm.precisions_cholesky_ = 1 / np.sqrt(gmm.covariances_)
    encounter = patches(30, 5)
    raw = fisher_vector(codebook.project(torch.from_numpy(encounter)).numpy().astype(float), gmm)
    # scikit-image puts K gradients of the weights in front, and its deviation block has the opposite sign.
    raw = np.concatenate([raw[K : K + K * D], -raw[K + K * D :]])
    expected = np.sign(raw) * np.sqrt(np.abs(raw))
    np.testing.assert_allclose(fisher_vectors(codebook, [encounter])[0], expected / np.linalg.norm(expected), atol=1e-4)


def test_an_encounter_without_patches_is_a_row_of_zeros():
    codebook = random_codebook()
    found = fisher_vectors(codebook, [patches(0, 0), patches(4, 1), patches(0, 0)])
    assert not found[[0, 2]].any()
    assert np.linalg.norm(found[1]) == pytest.approx(1, abs=1e-5)
    assert fisher_vectors(codebook, []).shape == (0, 2 * K * D)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=8), st.integers(1, 9))
def test_batches_change_nothing(counts, batch):
    # Encounters that share a batch, fill one exactly or reach over several.
    codebook = random_codebook()
    encounters = [patches(n, i) for i, n in enumerate(counts)]
    alone = [fisher_vectors(codebook, [e])[0] for e in encounters]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "BATCH", batch)
        found = fisher_vectors(codebook, encounters)
    np.testing.assert_allclose(found, np.reshape(alone, found.shape), atol=2e-4)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 4))
def test_sums_are_additive(first, second, times):
    # The sums over patches add up, so the order of photos, and giving all of them twice, leave the vector as it is ...
    codebook = random_codebook()
    a, b = patches(first, 1), patches(second, 2)
    one, other, repeated = fisher_vectors(codebook, [np.concatenate(p) for p in ([a, b], [b, a], [a, b] * times)])
    np.testing.assert_allclose(one, other, atol=2e-4)
    np.testing.assert_allclose(one, repeated, atol=2e-4)
    # ... and the vector before normalisation, sign(v) v^2 up to its length, is a positive sum of the parts' vectors.
    parts = [np.sign(v) * v.astype(float) ** 2 for v in fisher_vectors(codebook, [a, b])]
    whole = np.sign(one) * one.astype(float) ** 2
    weights, *_ = np.linalg.lstsq(np.stack(parts, 1), whole, rcond=None)
    np.testing.assert_allclose(np.stack(parts, 1) @ weights, whole, atol=1e-5)
    assert (weights > 0).all()


def test_float16_embeddings_and_storage():
    codebook = random_codebook()
    half = patches(40, 3).astype(np.float16)
    found = fisher_vectors(codebook, [half, half.astype(np.float32)])
    np.testing.assert_array_equal(found[0], found[1])
    stored = found[0].astype(np.float16).astype(float)
    assert stored @ found[0] / np.linalg.norm(stored) == pytest.approx(1, abs=1e-5)


def test_a_patch_far_from_every_component():
    codebook = random_codebook()
    found = fisher_vectors(codebook, [np.full((2, C), 60.0, np.float16)])
    assert np.isfinite(found).all()
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("encounter", "message"),
    [
        (np.full((2, C), np.nan, np.float32), "NaN or infinity"),
        (np.full((2, C), np.inf, np.float16), "NaN or infinity"),
        (np.zeros((2, C + 1), np.float32), "embeddings of 6 numbers"),
    ],
)
def test_bad_embeddings(encounter, message):
    with pytest.raises(UserError, match=message):
        fisher_vectors(random_codebook(), [encounter])
