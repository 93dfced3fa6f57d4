"""Older ways to make one vector of all patches of an encounter, beside which Fisher vectors are measured.

Each takes what `fisher_vectors` takes, a codebook and encounters (T, C), and gives rows of length 1 to be compared by
cosine distance; a row of zeros where T = 0. Words are the components of the mixture; a patch has the likeliest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pusa.fisher.codebook import Codebook


def mean_embedding(codebook: Codebook, encounters: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the patches' embeddings, (n, C) float32."""
    means = [e.astype(np.float32).mean(0) if len(e) else np.zeros(len(codebook.center)) for e in encounters]
    return unit(np.array(means, np.float32).reshape(len(encounters), len(codebook.center)))


def bag_of_words(codebook: Codebook, encounters: Sequence[np.ndarray]) -> np.ndarray:
    """How often each word occurs, its square root, (n, K) float32 (Sivic and Zisserman 2003; roots: Jegou 2009)."""
    words = len(codebook.mixture.weights)
    counts = [np.bincount(_words(codebook, e)[0], minlength=words) for e in encounters]
    return unit(np.sqrt(np.array(counts, np.float32).reshape(len(encounters), words)))


def vlad(codebook: Codebook, encounters: Sequence[np.ndarray]) -> np.ndarray:
    """Sum of the patches' differences from their word, signed roots, (n, K D) float32 (Jegou et al. 2010)."""
    means = codebook.mixture.means.numpy()
    rows = np.zeros((len(encounters), *means.shape), np.float32)
    for row, encounter in zip(rows, encounters, strict=True):
        words, x = _words(codebook, encounter)
        np.add.at(row, words, x - means[words])
    flat = rows.reshape(len(encounters), means.size)
    return unit(np.sign(flat) * np.sqrt(np.abs(flat)))


def _words(codebook: Codebook, encounter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The word (T,) of each patch, and the patches projected, (T, D) float32."""
    x = codebook.project(torch.from_numpy(encounter))
    return codebook.mixture.joint(x).argmax(1).numpy(), x.numpy()


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows (n, d) of length 1; rows of zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
