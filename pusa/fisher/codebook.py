"""The codebook: PCA of patch embeddings and a mixture of Gaussians (paper, section "Fisher vector").

512 -> 128 dimensions and 512 components with diagonal covariances, fitted to the patches of the database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pusa import weights
from pusa.config import Config, device_and_dtype
from pusa.errors import UserError
from pusa.fisher.mixture import Mixture, Statistics, chunks, expectation_maximisation, start, summed
from pusa.fisher.pca import Moments, principal_axes


class CodebookConfig(Config):
    """Settings of the fit."""

    dimensions: int = 128  # after PCA; the size of the embedding keeps them all, rotated
    components: int = 512
    iterations: int = 100  # of EM, at most
    tolerance: float = 1e-3  # EM ends when the mean log-likelihood of a patch gains less; scikit-learn's default
    variance_floor: float = 0.01  # share of the data's variance in a dimension below which no component's falls
    sample: int = 50_000  # patches that k-means starts from


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


class Patches(Protocol):
    """The patch embeddings that a codebook is fitted to, wherever they are: it needs sums over them, and a sample."""

    def moments(self) -> Moments: ...

    def project(self, center: Tensor, axes: Tensor, sample: np.ndarray) -> Tensor:
        """Keeps x = (e - center) @ axes of every patch, and returns the rows `sample` (sorted) of them, float32."""

    def statistics(self, mixture: Mixture) -> Statistics:
        """The sum over all patches x that `project` kept."""


class InMemory:
    """`Patches` of an array (n, C), float16 or float32, which may be memory-mapped; x is kept in float32."""

    def __init__(self, embeddings: np.ndarray, device: str = "cpu") -> None:
        self.embeddings = embeddings
        self.device, _ = device_and_dtype(device)  # always in float32: half precision is too coarse for a likelihood

    def moments(self) -> Moments:
        return Moments.of(self.embeddings)

    def project(self, center: Tensor, axes: Tensor, sample: np.ndarray) -> Tensor:
        self.x = torch.empty(len(self.embeddings), axes.shape[1])  # room for all at once: no second copy
        for part in chunks(len(self.embeddings)):
            self.x[part] = (torch.from_numpy(self.embeddings[part]).float() - center) @ axes
        return self.x[torch.from_numpy(sample)]

    def statistics(self, mixture: Mixture) -> Statistics:
        return summed(mixture, self.x, self.device)


def fit(
    patches: Patches,
    config: CodebookConfig,
    seed: int,
    made_with: Mapping[str, str] | None = None,
    report: Callable[[dict[str, float]], None] = lambda metrics: None,
) -> Codebook:
    """Fits a codebook to patches, however many: it keeps nothing of them but sums and a sample.

    `report` is called after each EM iteration: see `expectation_maximisation`. The same patches in the same order and
    the same seed give the same codebook. Raises UserError where there are fewer patches than components, they are all
    equal, or one is not finite.
    """
    moments = patches.moments()
    if moments.count < config.components:
        raise UserError(
            f"A codebook of {config.components} components cannot be fitted to {moments.count} patches. "
            "Process more photos, or set fewer components."
        )
    if not 1 <= config.dimensions <= len(moments.total):
        raise UserError(
            f"Setting `dimensions`: expected 1 to {len(moments.total)}, the embedding's size; got {config.dimensions}."
        )
    rng = np.random.default_rng(seed)
    center, axes, spectrum = principal_axes(moments, config.dimensions)
    floor = (config.variance_floor * spectrum).clamp(min=1e-6 * float(spectrum[0]))
    chosen = np.sort(rng.choice(moments.count, min(moments.count, config.sample), replace=False))
    mixture = start(patches.project(center, axes, chosen), config.components, floor, rng)
    mixture = expectation_maximisation(
        patches.statistics, mixture, config.iterations, config.tolerance, floor, rng, report
    )
    return Codebook(center, axes, mixture, dict(made_with or {}))


def draw_sweep(found: Mapping[tuple[int, int], float], path: Path) -> None:
    """A picture of top-1 (0 to 1) by (dimensions, components), each number in its field."""
    from matplotlib.figure import Figure

    dimensions, components = (sorted({key[k] for key in found}) for k in range(2))
    grid = np.array([[found.get((d, k), np.nan) for k in components] for d in dimensions])
    figure = Figure(figsize=(1.6 + 1.1 * len(components), 1.4 + 0.7 * len(dimensions)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(grid, cmap="Blues", aspect="auto", vmin=0)
    axes.set_xticks(range(len(components)), [str(k) for k in components])
    axes.set_yticks(range(len(dimensions)), [str(d) for d in dimensions])
    axes.set_xlabel("components of the mixture")
    axes.set_ylabel("dimensions after PCA")
    axes.set_title("top-1", fontsize=10)
    for (row, column), value in np.ndenumerate(grid):
        shade = "white" if value > 0.6 * np.nanmax(grid) else "black"
        axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=shade)
    figure.savefig(path, dpi=120)
