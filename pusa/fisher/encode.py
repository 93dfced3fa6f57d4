"""Improved Fisher vectors of encounters (Perronnin, Sanchez and Mensink 2010; paper, section "Fisher vector").

With T patches x_t, posteriors g_tk, and weights w, means m and deviations s of the mixture:
    mean block       G_mk = 1 / (T sqrt(w_k))    sum_t g_tk (x_t - m_k) / s_k
    deviation block  G_sk = 1 / (T sqrt(2 w_k))  sum_t g_tk ((x_t - m_k)^2 / s_k^2 - 1)
then the signed square root of each entry, and L2 normalisation. Layout and result are VLFeat's: [all G_m, all G_s].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pusa.fisher.codebook import Codebook
from pusa.fisher.mixture import weighted_sums

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
    earlier: Tensor | float = 0.0  # sums of the patches of an encounter that lie in earlier batches
    for batch in _batches([len(e) for e in encounters]):
        embeddings = np.concatenate([encounters[i][part] for i, part in batch])
        x = codebook.project(torch.from_numpy(embeddings).to(codebook.axes.device))
        posteriors, _ = codebook.mixture.posteriors(x)
        begin = 0
        for i, part in batch:
            end = begin + part.stop - part.start
            earlier = weighted_sums(posteriors[begin:end], x[begin:end]) + earlier
            if part.stop == len(encounters[i]):
                scale.gradient(earlier, out=result[i])
                earlier = 0.0
            begin = end
    return result


class _Scale:
    """Factors of the sums in the gradients of one codebook. 1 / T is left out: the normalisation undoes it."""

    def __init__(self, codebook: Codebook) -> None:
        mixture = codebook.mixture
        w, m, v = mixture.weights.double()[:, None], mixture.means.double(), mixture.variances.double()
        mean, deviation = 1 / (w * v).sqrt(), 1 / (v * (2 * w).sqrt())
        # of sums and counts in the mean block; of squares, sums and counts in the deviation block
        parts = mean, -m * mean, deviation, -2 * m * deviation, (m**2 - v) * deviation
        self.factors = torch.cat(parts, 1).float()  # (K, 5 D)

    def gradient(self, sums: Tensor, out: np.ndarray) -> None:
        """The normalised vector, into zeros (2 K D,), from sums of g [x, x^2, 1] (K, 2 D + 1)."""
        some = sums[:, -1].nonzero()[:, 0]  # the components of no patch stay zero: in a short encounter, most
        sums, factors = (t.index_select(0, some) for t in (sums, self.factors))
        size = self.factors.shape[1] // 5
        first, second, counts = sums.split([size, size, 1], 1)
        a, b, c, d, e = factors.split(size, 1)
        result = torch.empty(2, *first.shape, device=sums.device)
        torch.mul(first, a, out=result[0]).addcmul_(counts, b)
        torch.mul(second, c, out=result[1]).addcmul_(first, d).addcmul_(counts, e)
        # Length after the square root is the root of the sum of absolute values before it.
        length = result.abs()
        length /= length.sum().clamp(min=torch.finfo(torch.float32).tiny)
        blocks = torch.copysign(length.sqrt_(), result).cpu().numpy()
        for block, into in zip(blocks, out.reshape(2, -1, first.shape[1]), strict=True):
            into[some.cpu().numpy()] = block


def _batches(counts: Sequence[int]) -> Iterator[list[tuple[int, slice]]]:
    """Encounters of these numbers of patches, packed in order into batches of BATCH patches: (encounter, part)."""
    batch: list[tuple[int, slice]] = []
    room = BATCH
    for i, count in enumerate(counts):
        begin = 0
        while begin < count:
            end = min(count, begin + room)
            batch.append((i, slice(begin, end)))
            room -= end - begin
            begin = end
            if not room:
                yield batch
                batch, room = [], BATCH
    if batch:
        yield batch
