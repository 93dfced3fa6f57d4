"""Older encodings of an encounter, worked out by hand on a codebook of two words on a line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pusa.fisher.aggregate import bag_of_words, mean_embedding, vlad
from pusa.fisher.codebook import Codebook
from pusa.fisher.mixture import Mixture


@pytest.fixture
def codebook():
    """Embeddings (x, y) are projected on x; words at x = 0 and x = 10, equally likely, of variance 1."""
    mixture = Mixture(torch.tensor([0.5, 0.5]), torch.tensor([[0.0], [10.0]]), torch.ones(2, 1))
    return Codebook(torch.zeros(2), torch.tensor([[1.0], [0.0]]), mixture)


# Of the first encounter two patches are nearest to word 0 (differences 1 and 3), one to word 1 (-4).
ENCOUNTERS = [np.array([[1, 0], [3, 0], [6, 6]], np.float32), np.zeros((0, 2), np.float32)]


@pytest.mark.parametrize(
    ("encode", "expected"),
    [
        (mean_embedding, np.array([10, 6]) / np.sqrt(136)),  # sums 10 and 6
        (bag_of_words, np.sqrt([2 / 3, 1 / 3])),  # counts 2 and 1, roots, length 1
        (vlad, np.array([1, -1]) / np.sqrt(2)),  # sums 4 and -4: roots 2 and -2
    ],
)
def test_by_hand(codebook, encode, expected):
    found = encode(codebook, ENCOUNTERS)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    assert not found[1].any()
    assert encode(codebook, []).shape == (0, len(expected))
