"""The codebook: PCA of patch embeddings and a Gaussian mixture with diagonal covariances, fitted by exact EM.

Paper, section "Fisher vector": 512 -> 128 dimensions, 512 components, fitted to the patches of the database. EM needs
the data only through `Statistics`, which are sums over patches: they are computed in chunks and added, on one machine
or on many. Components are started by k-means on a sample; a component that lost all its patches takes half of the
heaviest one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pusa import weights
from pusa.config import Config
from pusa.errors import UserError

CHUNK = 8192  # patches at once: 32 MB of posteriors at 512 components


class CodebookConfig(Config):
    """Settings of the fit."""

    dimensions: int = 128  # after PCA; the size of the embedding keeps them all, rotated
    components: int = 512
    iterations: int = 100  # of EM, at most
    tolerance: float = 1e-3  # EM ends when the mean log-likelihood of a patch gains less; scikit-learn's default
    variance_floor: float = 0.01  # share of the data's variance in a dimension below which no component's falls
    sample: int = 50_000  # patches that k-means starts from
    device: str = "auto"


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

    @cached_property
    def _linear(self) -> tuple[Tensor, Tensor]:
        """(2D, K) and (K,) so that log(w N(x)) = [x, x^2] @ matrix + offset: one matrix product."""
        w, m, v = self.weights.double(), self.means.double(), self.variances.double()
        matrix = torch.cat([m / v, -0.5 / v], 1).T
        offset = w.log() - 0.5 * ((m**2 / v + v.log()).sum(1) + m.shape[1] * math.log(2 * math.pi))
        return matrix.float().contiguous(), offset.float()

    def posteriors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Posteriors (n, K) of patches x (n, D) float32, and their log densities (n,) in nats."""
        matrix, offset = self._linear
        joint = torch.addmm(offset, torch.cat([x, x * x], 1), matrix)
        # Not logsumexp and exp: they spend 10 times softmax's time on the many arguments that underflow.
        posteriors = joint.softmax(1)
        return posteriors, joint.amax(1) - posteriors.amax(1).log()

    def statistics(self, x: Tensor) -> Statistics:
        """The statistics of patches x (n, D) float32, n small enough for n x K posteriors in memory."""
        posteriors, density = self.posteriors(x)
        return _summed(posteriors, x, float(density.double().sum()))


def _summed(posteriors: Tensor, x: Tensor, log_likelihood: float) -> Statistics:
    both = (posteriors.T @ torch.cat([x, x * x], 1)).double()
    sums, squares = both.split(x.shape[1], 1)
    return Statistics(posteriors.sum(0, dtype=torch.float64), sums, squares, log_likelihood, len(x))


@dataclass(frozen=True)
class Codebook:
    """PCA and mixture. `center` (C,) and `axes` (C, D) project embeddings: x = (e - center) @ axes; all float32.

    `made_with` holds the SHA-256 of the weights behind the embeddings by kind ("embedding", "pattern"), `digest` that
    of this codebook's file ("" before it is saved): vectors compare only under the same codebook.
    """

    center: Tensor
    axes: Tensor
    mixture: Mixture
    made_with: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""

    @property
    def length(self) -> int:
        """Numbers in a Fisher vector: 2 K D."""
        return 2 * self.mixture.means.numel()

    def project(self, embeddings: Tensor) -> Tensor:
        """Embeddings (n, C) of any floating type to (n, D) float32. Raises UserError for another C, NaN or infinity."""
        if embeddings.ndim != 2 or embeddings.shape[1] != len(self.center):
            raise UserError(
                f"This codebook takes embeddings of {len(self.center)} numbers, these have the shape "
                f"{tuple(embeddings.shape)}. Use the codebook fitted to the embeddings of the same network."
            )
        projected = (embeddings.to(self.axes) - self.center) @ self.axes
        if not projected.isfinite().all():
            raise UserError("An embedding holds NaN or infinity: process the archive again, and report it if it stays.")
        return projected

    def check(self, used: Mapping[str, str]) -> None:
        """Raises UserError where the weights in use (SHA-256 by kind) are not those that the codebook was fitted behind."""
        for kind, digest in self.made_with.items():
            if used.get(kind) != digest:
                raise UserError(
                    f"The codebook was fitted behind other {kind} weights ({digest[:12]}) than these "
                    f"({used.get(kind, 'none')[:12]}). Fit one to them: process with `encounters: {{codebook: null}}`, "
                    "then `pusa codebook fit RUN`."
                )

    def to(self, device: torch.device | str) -> Codebook:
        mixture = Mixture(*(t.to(device) for t in (self.mixture.weights, self.mixture.means, self.mixture.variances)))
        return Codebook(self.center.to(device), self.axes.to(device), mixture, self.made_with, self.digest)

    def save(self, path: Path) -> str:
        """Writes the codebook as a weights file, in float32, and returns its SHA-256."""
        components, dimensions = self.mixture.means.shape
        settings = {
            "embedding": len(self.center),
            "dimensions": dimensions,
            "components": components,
            "made_with": dict(self.made_with),
        }
        tensors = {
            "center": self.center,
            "axes": self.axes,
            "weights": self.mixture.weights,
            "means": self.mixture.means,
            "variances": self.mixture.variances,
        }
        return weights.save(path, "codebook", settings, tensors, half=False)

    @classmethod
    def load(cls, name: str) -> Codebook:
        """The codebook `starter/codebook` or one at a path. Raises UserError where it is missing or damaged."""
        stored = weights.load(name, "codebook")
        try:
            t = [stored.tensors[key] for key in ("center", "axes", "weights", "means", "variances")]
            made_with = stored.settings["made_with"]
        except KeyError as e:
            raise UserError(f"{name} is not a complete codebook: {e.args[0]!r} is missing. Fit it again.") from e
        return cls(t[0], t[1], Mixture(*t[2:]), made_with, stored.digest)


def fit(
    embeddings: np.ndarray,
    config: CodebookConfig,
    seed: int,
    made_with: Mapping[str, str] | None = None,
    report: Callable[[dict[str, float]], None] = lambda metrics: None,
) -> Codebook:
    """Fits a codebook to patch embeddings (n, C), float16 or float32, which may be memory-mapped.

    `report` is called after each EM iteration with {"iteration", "log_likelihood"}: the mean of a patch in nats,
    under the mixture before that iteration's update. Keeps one (n, D) float32 copy. The same seed gives the same
    codebook. Raises UserError where there are fewer patches than components, they are all equal, or one is not finite.
    """
    n = len(embeddings)
    if n < config.components:
        raise UserError(
            f"A codebook of {config.components} components cannot be fitted to {n} patches. "
            "Process more photos, or set fewer components."
        )
    if not 1 <= config.dimensions <= embeddings.shape[1]:
        raise UserError(
            f"Setting `dimensions`: expected 1 to {embeddings.shape[1]}, the embedding's size; got {config.dimensions}."
        )
    rng = np.random.default_rng(seed)
    device = torch.device(
        "cuda" if config.device == "auto" and torch.cuda.is_available() else config.device.replace("auto", "cpu")
    )
    center, axes, spectrum = principal_axes(embeddings, config.dimensions)
    floor = (config.variance_floor * spectrum).clamp(min=1e-6 * float(spectrum[0])).to(device)
    empty = Mixture(torch.ones(1), torch.zeros(1, config.dimensions), torch.ones(1, config.dimensions))
    projection = Codebook(center, axes, empty)
    x = torch.empty(n, config.dimensions)
    for part in _chunks(n):
        x[part] = projection.project(torch.from_numpy(embeddings[part]))
    mixture = start(
        x[torch.from_numpy(np.sort(rng.choice(n, min(n, config.sample), replace=False)))], config, floor, rng
    )
    mixture = expectation_maximisation(x, mixture, config, floor, rng, report)
    return Codebook(center, axes, mixture, dict(made_with or {})).to("cpu")


def principal_axes(embeddings: np.ndarray, dimensions: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), axes (C, D) and variances (D,) of embeddings (n, C), by falling variance; float32, in chunks.

    An axis has its largest entry positive, so that the same data gives the same signs everywhere.
    """
    n, size = embeddings.shape
    total, products = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    shift = torch.from_numpy(embeddings[:CHUNK]).float().mean(0)  # near the mean, so that float32 products lose nothing
    for part in _chunks(n):
        e = torch.from_numpy(embeddings[part]).float() - shift
        total += e.sum(0)
        products += e.T @ e
    if not products.isfinite().all():
        raise UserError(
            "A patch embedding holds NaN or infinity: process the archive again, and report it if it stays."
        )
    mean = total / n
    values, vectors = torch.linalg.eigh(products / n - torch.outer(mean, mean))
    values, vectors = values.flip(0)[:dimensions], vectors.flip(1)[:, :dimensions]
    if values[0] <= 1e-9:
        raise UserError(
            "All patch embeddings are equal: there is nothing to fit a codebook to. Check the embedding's weights."
        )
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return shift + mean.float(), (vectors * largest.sign()).float(), values.clamp(min=0).float()


def start(sample: Tensor, config: CodebookConfig, floor: Tensor, rng: np.random.Generator) -> Mixture:
    """The mixture of the k-means clusters of a sample (n, D) float32."""
    from sklearn.cluster import KMeans

    kmeans = KMeans(config.components, n_init=1, max_iter=20, random_state=int(rng.integers(2**31)))
    labels = torch.from_numpy(kmeans.fit_predict(sample.numpy())).long()
    statistics = None
    for part in _chunks(len(sample)):
        members = torch.nn.functional.one_hot(labels[part], config.components).float()
        found = _summed(members, sample[part], 0.0)
        statistics = found if statistics is None else statistics + found
    assert statistics is not None
    return maximise(statistics, floor.cpu(), rng)[0]


def expectation_maximisation(
    x: Tensor,
    mixture: Mixture,
    config: CodebookConfig,
    floor: Tensor,
    rng: np.random.Generator,
    report: Callable[[dict[str, float]], None] = lambda metrics: None,
) -> Mixture:
    """EM on patches x (n, D) float32 from a given start, on the device of `floor` (D,), the smallest variances."""
    device = floor.device
    previous = -math.inf
    for iteration in range(1, config.iterations + 1):
        mixture = Mixture(mixture.weights.to(device), mixture.means.to(device), mixture.variances.to(device))
        statistics = mixture.statistics(x[:CHUNK].to(device))
        for part in _chunks(len(x), CHUNK):
            statistics += mixture.statistics(x[part].to(device))
        mixture, reseeded = maximise(statistics, floor, rng)
        mean = statistics.log_likelihood / len(x)
        report({"iteration": iteration, "log_likelihood": mean})
        if mean - previous < config.tolerance and not reseeded:
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


def _chunks(n: int, begin: int = 0) -> Iterator[slice]:
    return (slice(i, min(i + CHUNK, n)) for i in range(begin, n, CHUNK))
