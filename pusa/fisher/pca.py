"""Principal axes of patch embeddings (paper, section "Fisher vector": PCA of all patch embeddings, 512 -> 128).

PCA needs the data only through `Moments`, sums over patches: they are computed in parts and added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pusa.errors import UserError
from pusa.fisher.mixture import chunks


@dataclass(frozen=True)
class Moments:
    """Sums over embeddings e (C,), in float64."""

    count: int
    total: Tensor  # (C,) sum of e
    products: Tensor  # (C, C) sum of e e^T

    @classmethod
    def of(cls, embeddings: np.ndarray) -> Moments:
        """The moments of embeddings (n, C), float16 or float32."""
        found = cls.none(embeddings.shape[1])
        for part in chunks(len(embeddings)):
            e = torch.from_numpy(embeddings[part]).double()
            found = found + cls(len(e), e.sum(0), e.T @ e)
        return found

    @classmethod
    def none(cls, size: int) -> Moments:
        """The moments of no embedding (`size`,)."""
        return cls(0, torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64))

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.total + other.total, self.products + other.products)


def principal_axes(moments: Moments, dimensions: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), axes (C, D) and variances (D,) by falling variance, float32.

    An axis has its largest entry positive, so that the same data gives the same signs everywhere. Raises UserError
    where an embedding is not finite, or all are equal.
    """
    if not moments.products.isfinite().all():
        raise UserError(
            "A patch embedding holds NaN or infinity: process the archive again, and report it if it stays."
        )
    mean = moments.total / moments.count
    values, vectors = torch.linalg.eigh(moments.products / moments.count - torch.outer(mean, mean))
    values, vectors = values.flip(0)[:dimensions], vectors.flip(1)[:, :dimensions]
    if values[0] <= 1e-9:
        raise UserError(
            "All patch embeddings are equal: there is nothing to fit a codebook to. Check the embedding's weights."
        )
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return mean.float(), (vectors * largest.sign()).float(), values.clamp(min=0).float()
