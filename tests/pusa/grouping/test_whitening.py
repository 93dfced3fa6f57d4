"""Whitening against the reference, in pieces as at once, and what cannot be learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pusa.errors import UserError
from pusa.grouping.whitening import Sums, Whitening, discriminative, pca

FIXTURES = Path(__file__).resolve().parents[4] / "shared" / "fixtures" / "retrieval"


def sums(x: np.ndarray, queries, positives) -> Sums:
    found = Sums(x.shape[1])
    found.add(x, np.asarray(queries), np.asarray(positives))
    return found


def signed(rows: np.ndarray) -> np.ndarray:
    """Rows are determined up to their sign: the largest entry of each made positive."""
    return rows * np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)])[:, None]


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the reference outputs are not here")
def test_equal_to_the_reference():
    f = np.load(FIXTURES / "whiten.npz")
    x = f["X"].T.astype(float)  # there a column is a descriptor
    found = sums(x, f["qidxs"], f["pidxs"])
    learned, by_pca = discriminative(found), pca(found)
    np.testing.assert_allclose(learned.mean, f["m"].ravel(), atol=1e-12)
    np.testing.assert_allclose(by_pca.mean, f["pca.m"].ravel(), atol=1e-12)
    np.testing.assert_allclose(signed(learned.rows), signed(f["P"]), atol=1e-7 * np.abs(f["P"]).max())
    np.testing.assert_allclose(signed(by_pca.rows), signed(f["pca.P"]), atol=1e-7 * np.abs(f["pca.P"]).max())
    for whitening, gram, dimensions in ((learned, "gram", None), (learned, "gram_32", 32), (by_pca, "pca.gram", None)):
        y = whitening(x, dimensions)
        np.testing.assert_allclose(y @ y.T, f[gram], atol=1e-8)


def test_by_hand():
    """Pairs differ by 2 along the first axis and by 1 along the second: the whitening makes both 1 long."""
    x = np.array([[0.0, 0], [2, 0], [0, 5], [0, 6.0]])
    found = discriminative(sums(x, [0, 2], [1, 3]))
    np.testing.assert_allclose(found.mean, [0, 2.5])
    moved = x @ found.rows.T
    within = (moved[[0, 2]] - moved[[1, 3]]).T @ (moved[[0, 2]] - moved[[1, 3]]) / 2
    np.testing.assert_allclose(within, np.eye(2), atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.lists(st.integers(2, 9), min_size=1, max_size=5))
def test_pieces_are_the_whole(seed, sizes):
    """However the descriptors come, in one piece or many: the same sums."""
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal((n, 4)) for n in sizes]
    pieces = Sums(4)
    for part in parts:
        pieces.add(part, np.arange(len(part) - 1), np.arange(1, len(part)))
    starts = np.cumsum([0, *sizes[:-1]])
    q = np.concatenate([start + np.arange(n - 1) for start, n in zip(starts, sizes, strict=True)])
    whole = sums(np.concatenate(parts), q, q + 1)
    for name in ("count", "pairs", "total", "queries", "squares", "differences"):
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), atol=1e-12)


def test_it_brings_pairs_together():
    """Three directions of noise, three that tell animals apart: after whitening pairs are nearer than strangers."""
    rng = np.random.default_rng(0)
    animal = np.repeat(np.arange(30), 2)
    x = np.hstack([rng.normal(0, 3, (60, 3)), rng.normal(0, 1, (30, 3))[animal] + rng.normal(0, 0.1, (60, 3))])
    y = discriminative(sums(x, np.arange(0, 60, 2), np.arange(1, 60, 2)))(x)

    def nearest_is_right(z):
        distance = np.linalg.norm(z[:, None] - z, axis=2) + 9 * np.eye(60)
        return (animal[distance.argmin(axis=1)] == animal).mean()

    assert nearest_is_right(x / np.linalg.norm(x, axis=1, keepdims=True)) < 0.3
    assert nearest_is_right(y) > 0.6


def test_fewer_pairs_than_numbers():
    """Without shrinking the directions that no pair shows are blown up; with it everything is finite and of use."""
    x = np.random.default_rng(0).standard_normal((10, 50))
    found = discriminative(sums(x, [0, 2, 4], [1, 3, 5]), shrink=0.1)
    assert np.abs(found.rows).max() < 100
    np.testing.assert_allclose(np.linalg.norm(found(x), axis=1), 1, atol=1e-5)


def test_saved_and_loaded(tmp_path):
    x = np.random.default_rng(0).standard_normal((40, 5))
    found = discriminative(sums(x, np.arange(0, 40, 2), np.arange(1, 40, 2)))
    found.save(tmp_path / "w.safetensors")
    np.testing.assert_allclose(Whitening.load(str(tmp_path / "w.safetensors"))(x), found(x), atol=1e-5)


def test_what_cannot_be():
    with pytest.raises(UserError, match="no pair"):
        discriminative(Sums(3))
    with pytest.raises(UserError, match="no descriptor"):
        pca(Sums(3))
    with pytest.raises(UserError, match="pairs are equal"):
        discriminative(sums(np.ones((4, 3)), [0, 1], [1, 2]))
    with pytest.raises(UserError, match="NaN"):
        Sums(2).add(np.array([[np.nan, 0]]), np.array([], int), np.array([], int))
    with pytest.raises(UserError, match="descriptors of 5 numbers, these have 4"):
        Whitening(np.zeros(5), np.eye(5))(np.zeros((1, 4)))
