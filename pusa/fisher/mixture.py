"""A Gaussian mixture with diagonal covariances, fitted by exact EM.

EM needs the data only through `Statistics`, sums over patches: they are computed in chunks and added, on one machine
or on many. Components are started by k-means on a sample; one that lost all its patches takes half of the heaviest one.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csc_array
from torch import Tensor

CHUNK = 8192  # patches at once: 16 MB of posteriors at 512 components
LEAST = 1e-6  # share of a patch's largest posterior up to which another counts as zero on the CPU: see `expected`


@dataclass(frozen=True)
class Statistics:
    """Sums over patches x with posteriors g, in float64: all that EM needs to know of the patches."""

    counts: Tensor  # (K,) sum of g
    sums: Tensor  # (K, D) sum of g x
    squares: Tensor  # (K, D) sum of g x^2
    log_likelihood: float  # sum over patches, nats
    patches: int

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.counts + other.counts,
            self.sums + other.sums,
            self.squares + other.squares,
            self.log_likelihood + other.log_likelihood,
            self.patches + other.patches,
        )


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture with diagonal covariances: `weights` (K,), sum 1; `means` and `variances` (K, D); float32."""

    weights: Tensor
    means: Tensor
    variances: Tensor

    def to(self, device: torch.device | str) -> Mixture:
        return Mixture(self.weights.to(device), self.means.to(device), self.variances.to(device))

    @functools.cached_property
    def _linear(self) -> tuple[Tensor, Tensor]:
        """(2D, K) and (K,) so that log(w N(x)) = [x, x^2] @ matrix + offset: one matrix product."""
        w, m, v = self.weights.double(), self.means.double(), self.variances.double()
        matrix = torch.cat([m / v, -0.5 / v], 1).T
        offset = w.log() - 0.5 * ((m**2 / v + v.log()).sum(1) + m.shape[1] * math.log(2 * math.pi))
        return matrix.float().contiguous(), offset.float()

    def joint(self, x: Tensor) -> Tensor:
        """log(w N(x)) in nats, (n, K), of patches x (n, D) float32. Its softmax are the posteriors."""
        matrix, offset = self._linear
        return torch.addmm(offset, torch.cat([x, x * x], 1), matrix)

    def statistics(self, x: Tensor) -> Statistics:
        """The statistics of patches x (n, D) float32, n small enough for n x K posteriors in memory."""
        return _summed(self.joint(x), x)


def expected(joint: Tensor, x: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor, float]:
    """The E step of several sets of patches at once: the sums of g [x, x^2, 1] over each set.

    `joint` (n, K) is log(w N(x)) of patches x (n, D), the first counts[0] of which are set 0, the next set 1 and so on;
    g are its posteriors. Returns which sums there are, set * K + component, (R,) int64 rising; the sums (R, 2 D + 1)
    float32; and the log-likelihood of all patches, nats.

    On the CPU posteriors up to LEAST of the largest one count as zero, as in VLFeat: a patch has a share in 2 to 30 of
    512 components, and one sparse product takes a small part of the dense one's time. A GPU multiplies faster than it
    would look for them.
    """
    terms = torch.cat([x, x * x, torch.ones_like(x[:, :1])], 1)
    largest = joint.amax(1, keepdim=True)
    if joint.device.type != "cpu":
        # Not logsumexp and exp: they spend 10 times softmax's time on the many arguments that underflow.
        g = joint.softmax(1)
        parts = zip(g.split(list(counts)), terms.split(list(counts)), strict=True)
        sums = torch.cat([part.T @ t for part, t in parts])
        density = largest[:, 0] - g.amax(1).log()
        return torch.arange(len(sums), device=sums.device), sums, float(density.double().sum())
    n, components = joint.shape
    at = np.flatnonzero((joint > largest + math.log(LEAST)).numpy())
    patch, component = np.divmod(at, components)
    peak = largest[:, 0].numpy()
    g = np.exp(joint.numpy().ravel()[at] - peak[patch])
    total = np.bincount(patch, g, n)
    row = np.repeat(np.arange(len(counts)) * components, counts)[patch] + component
    there = np.zeros(len(counts) * components, bool)
    there[row] = True
    place, ends = np.cumsum(there) - 1, np.searchsorted(patch, np.arange(n + 1))
    sparse = csc_array(((g / total[patch]).astype(np.float32), place[row], ends), shape=(int(there.sum()), n))
    rows, sums = torch.from_numpy(np.flatnonzero(there)), torch.from_numpy(sparse @ terms.numpy())
    return rows, sums, float(peak.sum(dtype=np.float64) + np.log(total).sum())


def _summed(joint: Tensor, x: Tensor) -> Statistics:
    size = x.shape[1]
    rows, found, log_likelihood = expected(joint, x, [len(x)])
    sums = torch.zeros(joint.shape[1], 2 * size + 1, dtype=torch.float64, device=x.device)
    sums[rows] = found.double()
    first, second, counts = sums.split([size, size, 1], 1)
    return Statistics(counts[:, 0], first, second, log_likelihood, len(x))


def start(sample: Tensor, components: int, floor: Tensor, rng: np.random.Generator) -> Mixture:
    """The mixture of the k-means clusters of a sample (n, D) float32."""
    from sklearn.cluster import KMeans

    kmeans = KMeans(components, n_init=1, max_iter=20, random_state=int(rng.integers(2**31)))
    labels = torch.from_numpy(kmeans.fit_predict(sample.numpy())).long()
    certain = (torch.nn.functional.one_hot(labels[part], components).log() for part in chunks(len(sample)))
    parts = (_summed(joint, sample[part]) for joint, part in zip(certain, chunks(len(sample)), strict=True))
    return maximise(total(parts), floor, rng)[0]


def expectation_maximisation(
    statistics: Callable[[Mixture], Statistics],
    mixture: Mixture,
    iterations: int,
    tolerance: float,
    floor: Tensor,
    rng: np.random.Generator,
    report: Callable[[dict[str, float]], None] = lambda metrics: None,
) -> Mixture:
    """EM from a given start; `statistics` gives those of all patches under a mixture, wherever the patches are.

    `floor` (D,): smallest variances. Ends after `iterations`, or where the mean log-likelihood of a patch gains less
    than `tolerance`. `report` gets {"iteration", "log_likelihood"}: that mean, in nats, before the iteration's update.
    """
    previous = -math.inf
    for iteration in range(1, iterations + 1):
        found = statistics(mixture)
        mixture, reseeded = maximise(found, floor, rng)
        mean = found.log_likelihood / found.patches
        report({"iteration": iteration, "log_likelihood": mean})
        if mean - previous < tolerance and not reseeded:
            break
        previous = mean
    return mixture


def maximise(statistics: Statistics, floor: Tensor, rng: np.random.Generator) -> tuple[Mixture, int]:
    """The M step: the likeliest mixture under these statistics, and how many empty components were re-seeded.

    A component with less than half a patch takes half of the heaviest one's weight, its variances, and a mean half a
    standard deviation away in random directions; the two then part in the next iterations.
    """
    counts = statistics.counts.clamp(min=1e-12)
    weights_ = counts / counts.sum()
    means = statistics.sums / counts[:, None]
    # Var = E[x^2] - mean^2 cancels where a cluster is tight: the floor also catches what falls below zero.
    variances = torch.maximum(statistics.squares / counts[:, None] - means**2, floor.double())
    empty = (statistics.counts < 0.5).nonzero()[:, 0].tolist()
    for k in empty:
        heaviest = int(weights_.argmax())
        shift = torch.from_numpy(rng.choice([-0.5, 0.5], means.shape[1])).to(means)
        means[k] = means[heaviest] + shift * variances[heaviest].sqrt()
        variances[k] = variances[heaviest]
        weights_[k] = weights_[heaviest] = weights_[heaviest] / 2
    return Mixture((weights_ / weights_.sum()).float(), means.float(), variances.float()), len(empty)


def summed(mixture: Mixture, x: Tensor, device: torch.device | str = "cpu") -> Statistics:
    """The statistics, on the CPU, of patches x (n, D) float32, n >= 0, computed on `device` in chunks."""
    components, dimensions = mixture.means.shape
    zeros = torch.zeros(components, dimensions, dtype=torch.float64, device=device)
    found = Statistics(zeros[:, 0], zeros, zeros, 0.0, 0)
    mixture = mixture.to(device)
    for part in chunks(len(x)):
        found = found + mixture.statistics(x[part].to(device))
    return Statistics(found.counts.cpu(), found.sums.cpu(), found.squares.cpu(), found.log_likelihood, found.patches)


def total(parts: Iterable[Statistics]) -> Statistics:
    """The sum of at least one part."""
    return functools.reduce(operator.add, parts)


def chunks(n: int) -> Iterator[slice]:
    """Slices that cover n rows, CHUNK at a time."""
    return (slice(i, min(i + CHUNK, n)) for i in range(0, n, CHUNK))
