"""The codebook: PCA against scikit-learn, recovery of known clusters, files, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from pusa import weights
from pusa.errors import UserError
from pusa.fisher import mixture as module
from pusa.fisher.codebook import Codebook, CodebookConfig, InMemory, fit
from pusa.fisher.mixture import summed
from pusa.fisher.pca import Moments, principal_axes

SMALL = CodebookConfig(dimensions=4, components=8, iterations=30)


def clusters(n: int = 2000, size: int = 10, k: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((k, size)) * 0.3
    return (centres[rng.integers(0, k, n)] + 0.1 * rng.standard_normal((n, size))).astype(np.float32)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 300)  # so that every test adds up several chunks, the last one shorter


def test_axes_equal_scikit_learn():
    x = clusters() + 5  # far from zero, where float32 sums would lose digits
    center, axes, variances = principal_axes(Moments.of(x), 4)
    reference = PCA(4).fit(x.astype(float))
    np.testing.assert_allclose(center, x.mean(0), atol=1e-5)
    np.testing.assert_allclose(np.abs(reference.components_ @ axes.numpy()), np.eye(4), atol=1e-4)
    np.testing.assert_allclose(variances, reference.explained_variance_, rtol=2e-3)  # n - 1 there
    assert (axes.gather(0, axes.abs().argmax(0, keepdim=True)) > 0).all()


def test_fit_finds_the_clusters_and_repeats_itself():
    x = clusters().astype(np.float16)
    first, again, other = (
        fit(InMemory(x), SMALL, seed=3),
        fit(InMemory(x), SMALL, seed=3),
        fit(InMemory(x), SMALL, seed=4),
    )
    torch.testing.assert_close(first.mixture.means, again.mixture.means, rtol=0, atol=0)
    assert not torch.equal(first.mixture.means, other.mixture.means)
    projected = first.project(torch.from_numpy(x))
    reference = GaussianMixture(8, covariance_type="diag", random_state=0).fit(projected.numpy())
    assert summed(first.mixture, projected).log_likelihood / len(x) > reference.score(projected.numpy()) - 0.1


def test_variance_floor():
    x = np.repeat(clusters(8), 50, 0)  # eight points, fifty times each: every cluster has no width
    found = fit(InMemory(x), SMALL.model_copy(update={"dimensions": 2, "variance_floor": 0.01}), seed=0)
    spread = found.project(torch.from_numpy(x)).var(0, unbiased=False)
    torch.testing.assert_close(found.mixture.variances, (0.01 * spread).expand(8, 2), rtol=1e-3, atol=0)


def test_file_round_trip(tmp_path):
    codebook = fit(InMemory(clusters()), SMALL, seed=0, made_with={"embedding": "e" * 64, "pattern": "p" * 64})
    digest = codebook.save(tmp_path / "c.safetensors")
    loaded = Codebook.load(str(tmp_path / "c.safetensors"))
    assert loaded.digest == digest
    assert loaded.made_with == {"embedding": "e" * 64, "pattern": "p" * 64}
    assert loaded.length == 2 * 8 * 4
    for name in ("center", "axes"):
        assert torch.equal(getattr(loaded, name), getattr(codebook, name))
    for name in ("weights", "means", "variances"):
        assert torch.equal(getattr(loaded.mixture, name), getattr(codebook.mixture, name))


def test_weights_behind_it():
    codebook = Codebook(torch.zeros(3), torch.zeros(3, 2), None, {"embedding": "e" * 64})
    codebook.check({"embedding": "e" * 64, "segmentation": "s" * 64})
    for other in ({"embedding": "f" * 64}, {}):
        with pytest.raises(UserError, match="other embedding weights"):
            codebook.check(other)


def test_incomplete_file(tmp_path):
    weights.save(tmp_path / "c.safetensors", "codebook", {"made_with": {}}, {"center": torch.zeros(3)}, half=False)
    with pytest.raises(UserError, match="'axes' is missing"):
        Codebook.load(str(tmp_path / "c.safetensors"))


@pytest.mark.parametrize(
    ("embeddings", "config", "message"),
    [
        (clusters(5), SMALL, "8 components cannot be fitted to 5 patches"),
        (np.ones((100, 10), np.float32), SMALL, "are equal"),
        (np.where(np.arange(2000)[:, None] == 1500, np.nan, clusters()), SMALL, "NaN"),
        (clusters(), SMALL.model_copy(update={"dimensions": 11}), "expected 1 to 10"),
    ],
)
def test_bad_input(embeddings, config, message):
    with pytest.raises(UserError, match=message):
        fit(InMemory(embeddings), config, seed=0)


def test_embeddings_of_another_network():
    with pytest.raises(UserError, match="embeddings of 10 numbers"):
        fit(InMemory(clusters()), SMALL, seed=0).project(torch.zeros(3, 7))
