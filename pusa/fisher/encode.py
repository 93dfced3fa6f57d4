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
    earlier: tuple[Tensor, Tensor] | None = None  # sums of the patches of an encounter that lie in earlier batches
    for batch in _batches([len(e) for e in encounters]):
        embeddings = np.concatenate([encounters[i][part] for i, part in batch])
        x = codebook.project(torch.from_numpy(embeddings).to(codebook.axes.device))
        posteriors, _ = codebook.mixture.posteriors(x)
        both = torch.cat([x, x * x], 1)
        begin = 0
        for i, part in batch:
            end = begin + part.stop - part.start
            g = posteriors[begin:end]
            counts, sums = g.sum(0), g.T @ both[begin:end]  # (K,), (K, 2 D)
            if earlier:
                counts, sums = counts + earlier[0], sums + earlier[1]
            earlier = counts, sums
            if part.stop == len(encounters[i]):
                result[i] = scale.gradient(counts, sums).cpu().numpy()
                earlier = None
            begin = end
    return result


class _Scale:
    """Factors of the sums in the gradients of one codebook. 1 / T is left out: the normalisation undoes it."""

    def __init__(self, codebook: Codebook) -> None:
        mixture = codebook.mixture
        w, m, v = mixture.weights.double()[:, None], mixture.means.double(), mixture.variances.double()
        mean, deviation = 1 / (w * v).sqrt(), 1 / (v * (2 * w).sqrt())
        self.mean_of_sums, self.mean_of_counts = mean.float(), (-m * mean).float()
        self.deviation_of_squares, self.deviation_of_sums = deviation.float(), (-2 * m * deviation).float()
        self.deviation_of_counts = ((m**2 - v) * deviation).float()

    def gradient(self, counts: Tensor, sums: Tensor) -> Tensor:
        """The normalised vector (2 K D,) from sum of g (K,) and sum of g [x, x^2] (K, 2 D)."""
        counts = counts[:, None]
        first, second = sums.chunk(2, 1)
        result = torch.empty(2, *first.shape, device=sums.device)
        torch.mul(first, self.mean_of_sums, out=result[0]).addcmul_(counts, self.mean_of_counts)
        torch.mul(second, self.deviation_of_squares, out=result[1])
        result[1].addcmul_(first, self.deviation_of_sums).addcmul_(counts, self.deviation_of_counts)
        # Length after the square root is the root of the sum of absolute values before it.
        size = result.abs()
        size /= size.sum().clamp(min=torch.finfo(torch.float32).tiny)
        return torch.copysign(size.sqrt_(), result).flatten()


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
