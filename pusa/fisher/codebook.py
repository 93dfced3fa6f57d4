"""The codebook: PCA of patch embeddings and a mixture of Gaussians (paper, section "Fisher vector").

512 -> 128 dimensions and 512 components with diagonal covariances, fitted to the patches of the database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pusa import weights
from pusa.config import Config, device_and_dtype
from pusa.errors import UserError
from pusa.fisher.mixture import CHUNK, Mixture, chunks, expectation_maximisation, start


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
        """Raises UserError unless the weights in use (SHA-256 by kind) are those behind the codebook."""
        for kind, digest in self.made_with.items():
            if used.get(kind) != digest:
                raise UserError(
                    f"The codebook was fitted behind other {kind} weights ({digest[:12]}) than these "
                    f"({used.get(kind, 'none')[:12]}). Fit one to them: process with `encounters: {{codebook: null}}`, "
                    "then `pusa codebook fit RUN`."
                )

    def to(self, device: torch.device | str) -> Codebook:
        moved = self.center.to(device), self.axes.to(device), self.mixture.to(device)
        return Codebook(*moved, self.made_with, self.digest)

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
    device, _ = device_and_dtype(config.device)  # always in float32: half precision is too coarse for a likelihood
    center, axes, spectrum = principal_axes(embeddings, config.dimensions)
    floor = (config.variance_floor * spectrum).clamp(min=1e-6 * float(spectrum[0]))
    x = torch.empty(n, config.dimensions)
    for part in chunks(n):
        x[part] = (torch.from_numpy(embeddings[part]).float() - center) @ axes
    sample = torch.from_numpy(np.sort(rng.choice(n, min(n, config.sample), replace=False)))
    mixture = start(x[sample], config.components, floor, rng).to(device)
    mixture = expectation_maximisation(x, mixture, config.iterations, config.tolerance, floor.to(device), rng, report)
    return Codebook(center, axes, mixture.to("cpu"), dict(made_with or {}))


def principal_axes(embeddings: np.ndarray, dimensions: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), axes (C, D) and variances (D,) of embeddings (n, C), by falling variance; float32, in chunks.

    An axis has its largest entry positive, so that the same data gives the same signs everywhere.
    """
    n, size = embeddings.shape
    total, products = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    shift = torch.from_numpy(embeddings[:CHUNK]).float().mean(0)  # near the mean, so that float32 products lose nothing
    for part in chunks(n):
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
