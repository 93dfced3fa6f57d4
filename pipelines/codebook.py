"""The codebook of a run's patches, however many: each pass over them is a Ray Data job whose tasks send back sums.

First pass: moments, for the axes. Second: projection, kept beside the run while the fit lasts. Then one pass an
iteration of EM. A task holds the patches of a few files; the driver holds one sum.
"""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines import cluster, reid
from pusa import storage
from pusa.config import device_and_dtype, load_config
from pusa.embedding.network import DIMENSIONS
from pusa.fisher.codebook import CodebookConfig, fit
from pusa.fisher.encode import fisher_vectors
from pusa.fisher.mixture import Mixture, Statistics, summed, total
from pusa.fisher.pca import Moments
from pusa.records import Run
from pusa.reid import rank

FILES = 16  # of a run in a part: some 10,000 patches
FOLDER = "projected"  # of the run, while the fit lasts


class StoredPatches:
    """`codebook.Patches` of a finished run, in the Ray session that is there; a context that clears up behind itself.

    Patches come in the order of files, within a part in that of photo_id: the same run gives the same codebook, however
    many workers there are.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        files = run.files("photos")
        self.parts = [files[i : i + FILES] for i in range(0, len(files), FILES)]

    def __enter__(self) -> StoredPatches:
        self.run.clear(FOLDER)
        return self

    def __exit__(self, *error: object) -> None:
        self.run.clear(FOLDER)

    def moments(self) -> Moments:
        self.counts: list[int] = []
        found = Moments.none(DIMENSIONS)
        for row in self._each(_moments, run=self.run.uri) if self.parts else ():
            self.counts.append(row["count"])
            found = found + Moments(row["count"], torch.tensor(row["total"]), torch.tensor(row["products"]))
        return found

    def project(self, center: Tensor, axes: Tensor, sample: np.ndarray) -> Tensor:
        starts = np.cumsum([0, *self.counts])
        of_part = np.split(sample, np.searchsorted(sample, starts[1:-1]))
        wanted = [rows - start for rows, start in zip(of_part, starts, strict=False)]
        rows = self._each(_project, run=self.run.uri, center=center.numpy(), axes=axes.numpy(), wanted=wanted)
        return torch.cat([torch.tensor(row["sample"]) for row in rows])

    def statistics(self, mixture: Mixture) -> Statistics:
        rows = self._each(_statistics, run=self.run.uri, mixture=mixture)
        tensors = ("counts", "sums", "squares")
        return total(Statistics(**row | {name: torch.tensor(row[name]) for name in tensors}) for row in rows)

    def _each(self, job: Callable[..., dict[str, Any]], **arguments: Any) -> Iterator[dict[str, Any]]:
        """What `job` returns of each part, in order."""
        import ray

        gpu = cluster.resources()[1] > 0
        items = [{"part": i, "files": files} for i, files in enumerate(self.parts)]
        stream = ray.data.from_items(items, override_num_blocks=len(items)).map(
            job, fn_kwargs=arguments, num_cpus=None if gpu else 1, num_gpus=1 if gpu else None
        )
        stream.context.execution_options.preserve_order = True
        return iter(stream.iter_rows())


@dataclass(frozen=True)
class Trial:
    """A codebook of a sweep, and how well it finds animals by encounter: top-1 with its 95 % interval, top-5, mAP."""

    dimensions: int
    components: int
    top_1: tuple[float, float, float]
    top_5: float
    mean_precision: float


def sweep(
    run: Run, measured: Run, truth_file: str, dimensions: Sequence[int], components: Sequence[int], seed: int
) -> Iterator[Trial]:
    """Fits a codebook of each size to a run, and identifies the encounters of another one with it, as the paper chose
    its 128 dimensions and 512 components (section "Re-identification"); without key points."""
    animals = reid.read(measured, truth_file)
    for d, k in itertools.product(dimensions, components):
        config = load_config(CodebookConfig, overrides={"dimensions": d, "components": k})
        with StoredPatches(run) as patches:
            fitted = fit(patches, config, seed)
        method = reid.of_patches(animals, functools.partial(fisher_vectors, fitted))
        found = rank(animals.instances, method, grouping=True, grouped_gallery=False).by_group(animals.instances)
        yield Trial(d, k, found.top(1), found.top(5)[0], float(found.precision.mean()))


def _moments(row: dict[str, Any], run: str) -> dict[str, Any]:
    found = Moments.of(Run(run).embeddings(row["files"]))
    return {"count": found.count, "total": found.total.numpy(), "products": found.products.numpy()}


def _project(
    row: dict[str, Any], run: str, center: np.ndarray, axes: np.ndarray, wanted: list[np.ndarray]
) -> dict[str, Any]:
    opened = Run(run)
    x = (opened.embeddings(row["files"]).astype(np.float32) - center) @ axes
    content = io.BytesIO()
    np.save(content, x)
    storage.write_bytes(opened.fs, _file(opened, row), content.getvalue())
    return {"sample": x[wanted[row["part"]]]}


def _statistics(row: dict[str, Any], run: str, mixture: Mixture) -> dict[str, Any]:
    opened = Run(run)
    x = np.load(io.BytesIO(storage.read_bytes(opened.fs, _file(opened, row))))
    found = summed(mixture, torch.from_numpy(x), device_and_dtype("auto")[0])
    return {f.name: getattr(found, f.name) for f in fields(found)}


def _file(run: Run, row: dict[str, Any]) -> str:
    return run.file(FOLDER, f"{row['part']:05d}.npy")
