"""Whitening of descriptors, learnt from groups whose animal is known (Mikolajczyk and Matas 2007; Radenovic 2019).

Discriminative: the differences within pairs of one animal become noise of equal size in all directions; then the
directions in which all descriptors vary most come first. PCA whitening does the second without labels. Both need sums
over the descriptors, never the descriptors themselves. Conventions as in cnnimageretrieval-pytorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pusa import weights
from pusa.errors import UserError

EPS = 1e-6  # beside the norm, as everywhere in the retrieval networks


@dataclass(frozen=True)
class Whitening:
    """A projection: x -> rows[:d] (x - mean), divided by its length. `mean` (C,), `rows` (D, C), by falling energy."""

    mean: np.ndarray
    rows: np.ndarray

    def __call__(self, x: np.ndarray, dimensions: int | None = None) -> np.ndarray:
        """Descriptors (n, C) as (n, D) of length 1. Raises UserError for another C."""
        if x.shape[1] != len(self.mean):
            raise UserError(
                f"This whitening takes descriptors of {len(self.mean)} numbers, these have {x.shape[1]}. "
                "Train one for this network (`pusa train whitening`), or do without: `descriptor: {whitening: null}`."
            )
        y = (x - self.mean) @ self.rows[:dimensions].T
        return y / (np.linalg.norm(y, axis=1, keepdims=True) + EPS)

    def first(self, dimensions: int) -> Whitening:
        """The same with the first so many numbers only."""
        return Whitening(self.mean, self.rows[:dimensions])

    def save(self, path: Path) -> str:
        """Writes it as a weights file, in float32."""
        tensors = {"mean": torch.from_numpy(self.mean).float(), "rows": torch.from_numpy(self.rows.copy()).float()}
        return weights.save(path, "whitening", {}, tensors, half=False)

    @classmethod
    def load(cls, name: str) -> Whitening:
        """The whitening in a weights file."""
        stored = weights.load(name, "whitening")
        if not {"mean", "rows"} <= set(stored.tensors):
            raise UserError(f"{name} is not a complete whitening. Train it again: `pusa train whitening`.")
        return cls(stored.tensors["mean"].double().numpy(), stored.tensors["rows"].double().numpy())


class Sums:
    """What both projections need of descriptors of C numbers; filled piece by piece."""

    def __init__(self, length: int) -> None:
        self.count, self.pairs = 0, 0
        self.total, self.queries = np.zeros(length), np.zeros(length)
        self.squares, self.differences = np.zeros((length, length)), np.zeros((length, length))

    def add(self, x: np.ndarray, queries: np.ndarray, positives: np.ndarray) -> None:
        """Descriptors (n, C), and the places in them of pairs of one animal, `queries` and `positives`, (m,)."""
        x = np.asarray(x, np.float64)
        if not np.isfinite(x).all():
            raise UserError("A descriptor holds NaN or infinity: process the archive again, and report it if it stays.")
        difference = x[queries] - x[positives]
        self.count += len(x)
        self.pairs += len(difference)
        self.total += x.sum(axis=0)
        self.squares += x.T @ x
        self.queries += x[queries].sum(axis=0)
        self.differences += difference.T @ difference

    def around(self, mean: np.ndarray) -> np.ndarray:
        """Sum over all descriptors of (x - mean)(x - mean)^T."""
        cross = np.outer(self.total, mean)
        return self.squares - cross - cross.T + self.count * np.outer(mean, mean)


def discriminative(sums: Sums, shrink: float = 0.0) -> Whitening:
    """The projection of Mikolajczyk and Matas: mean of the query descriptors, covariance of the differences.

    `shrink`: the share of the covariance that is replaced by a multiple of the identity of the same trace; with fewer
    pairs than numbers in a descriptor it must not be 0. Raises UserError where there is no pair.
    """
    if not sums.pairs:
        raise UserError(
            "There is no pair of crops of one animal in a sequence to learn from. Does the truth have `identity`, and "
            "sequences of several photos?"
        )
    mean, within = sums.queries / sums.pairs, sums.differences / sums.pairs
    if not np.trace(within) > 0:
        raise UserError("The descriptors of all pairs are equal: nothing can be learnt from them.")
    within = (1 - shrink) * within + shrink * np.trace(within) / len(within) * np.eye(len(within))
    inverse = np.linalg.inv(_cholesky(within))
    energy, vectors = np.linalg.eigh(inverse @ sums.around(mean) @ inverse.T)
    return Whitening(mean, vectors[:, energy.argsort()[::-1]].T @ inverse)


def pca(sums: Sums) -> Whitening:
    """PCA whitening: all directions get the same variance, the largest first."""
    if not sums.count:
        raise UserError("There is no descriptor to learn from.")
    mean = sums.total / sums.count
    energy, vectors = np.linalg.eigh(sums.around(mean) / sums.count)
    order = energy.argsort()[::-1]
    scale = 1 / np.sqrt(np.maximum(energy[order], 1e-12 * energy.max()))
    return Whitening(mean, scale[:, None] * vectors[:, order].T)


def _cholesky(covariance: np.ndarray) -> np.ndarray:
    """Its Cholesky factor; where there is none, 1e-10, 1e-9, ... is added to the diagonal until there is."""
    jitter = 0.0
    while True:
        try:
            return np.linalg.cholesky(covariance + jitter * np.eye(len(covariance)))
        except np.linalg.LinAlgError:
            jitter = 10 * jitter or 1e-10
