"""Improved Fisher vectors of encounters (Perronnin, Sanchez and Mensink 2010; paper, section "Fisher vector").

With T patches x_t, posteriors g_tk, and weights w, means m and deviations s of the mixture:
    mean block       G_mk = 1 / (T sqrt(w_k))    sum_t g_tk (x_t - m_k) / s_k
    deviation block  G_sk = 1 / (T sqrt(2 w_k))  sum_t g_tk ((x_t - m_k)^2 / s_k^2 - 1)
then the signed square root of each entry, and L2 normalisation. Layout and result are VLFeat's: [all G_m, all G_s].
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pusa.fisher.codebook import Codebook
from pusa.fisher.mixture import expected

BATCH = 2048  # patches whose posteriors are computed at once: 4 MB at 512 components, which stays in the cache


@torch.inference_mode()
def fisher_vectors(codebook: Codebook, encounters: Sequence[np.ndarray]) -> np.ndarray:
    """Improved Fisher vectors, (n, 2 K D) float32 with rows of length 1, of n encounters.

    An encounter is an array (T, C) of patch embeddings, float16 or float32. T = 0 gives a row of zeros: store null,
    there is nothing to compare. Memory beyond the result does not grow with n or T. Runs on the codebook's device.
    Raises UserError for embeddings of another length, NaN or infinity.
    """
    scale = _Scale(codebook)
    result = np.zeros((len(encounters), codebook.length), np.float32)
    for together in _batches([len(e) for e in encounters]):
        if len(together) == 1:
            (only,) = (encounters[i] for i in together)
            parts = (_sums(codebook, [only[i : i + BATCH]]) for i in range(0, len(only), BATCH))
            found = functools.reduce(_added, parts)
        else:
            found = _sums(codebook, [encounters[i] for i in together])
        scale.gradients(*found, out=result[together.start : together.stop])
    return result


def _sums(codebook: Codebook, encounters: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """The sums over the patches of each encounter: `mixture.expected`."""
    x = codebook.project(torch.from_numpy(np.concatenate(encounters)).to(codebook.axes.device))
    return expected(codebook.mixture.joint(x), x, [len(e) for e in encounters])[:2]


def _added(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The sums over the patches of both."""
    rows, place = torch.cat([one[0], other[0]]).unique(return_inverse=True)
    sums = torch.cat([one[1], other[1]])
    return rows, sums.new_zeros(len(rows), sums.shape[1]).index_add_(0, place, sums)


class _Scale:
    """Factors of the sums in the gradients of one codebook. 1 / T is left out: the normalisation undoes it."""

    def __init__(self, codebook: Codebook) -> None:
        mixture = codebook.mixture
        w, m, v = mixture.weights.double()[:, None], mixture.means.double(), mixture.variances.double()
        mean, deviation = 1 / (w * v).sqrt(), 1 / (v * (2 * w).sqrt())
        # of sums and counts in the mean block; of squares, sums and counts in the deviation block
        parts = mean, -m * mean, deviation, -2 * m * deviation, (m**2 - v) * deviation
        self.factors = torch.stack([part.float() for part in parts])  # (5, K, D)

    def gradients(self, rows: Tensor, sums: Tensor, out: np.ndarray) -> None:
        """The normalised vectors of n encounters, into zeros (n, 2 K D), from the sums of each."""
        _, components, size = self.factors.shape
        a, b, c, d, e = self.factors.index_select(1, rows % components)
        first, second, counts = sums.split([size, size, 1], 1)
        gradient = torch.empty(2, *first.shape, device=sums.device)
        torch.mul(first, a, out=gradient[0]).addcmul_(counts, b)
        torch.mul(second, c, out=gradient[1]).addcmul_(first, d).addcmul_(counts, e)
        # Length after the square root is the root of the sum of absolute values before it.
        length, encounter = gradient.abs(), rows // components
        total = length.sum((0, 2))
        norm = total.new_zeros(len(out)).index_add_(0, encounter, total).clamp(min=torch.finfo(torch.float32).tiny)
        length /= norm[encounter][:, None]
        blocks = torch.copysign(length.sqrt_(), gradient).cpu().numpy()
        into, (where, which) = out.reshape(len(out), 2, components, size), (t.cpu().numpy() for t in (encounter, rows))
        for block in range(2):
            into[where, block, which % components] = blocks[block]


def _batches(counts: Sequence[int]) -> Iterator[range]:
    """Encounters of these numbers of patches, in order, as many together as have up to BATCH patches; at least one."""
    begin = patches = 0
    for i, count in enumerate(counts):
        if patches + count > BATCH:
            if patches:
                yield range(begin, i)
            begin, patches = i, 0
        patches += count
    if patches:
        yield range(begin, len(counts))
