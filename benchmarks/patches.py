"""Patch networks beside RootSIFT and an untrained network: do patches find their place on the animal again?

    python benchmarks/patches.py RUN ARCHIVE [NAME=WEIGHTS ...]

RUN: a processed synthetic ARCHIVE. 20,000 of its patches by chance, 1,000 queries among them, against all patches of
other sequences (`pusa.embedding.evaluate.retrieval`); the same patches and queries for all. Intervals: 95 % of 2,000
resamplings of the queries. RootSIFT (Arandjelovic 2012): one upright SIFT descriptor over the whole patch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pusa.embedding import seen
from pusa.embedding.embed import EmbeddingConfig, PatchEmbedder
from pusa.embedding.evaluate import retrieval
from pusa.embedding.network import PatchNetwork
from pusa.pattern.patches import SIZE
from pusa.records import Run

PATCHES, QUERIES = 20_000, 1000


def main(run: str, archive: Path, named: dict[str, str]) -> None:
    found = seen.sample(Run(run), archive, PATCHES, np.random.default_rng(0))
    torch.manual_seed(0)
    methods: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "untrained": PatchEmbedder(EmbeddingConfig(), network=PatchNetwork(32)).embed,
        "RootSIFT": root_sift,
        "starter": PatchEmbedder(EmbeddingConfig()).embed,
    }
    methods |= {name: PatchEmbedder(EmbeddingConfig(weights=file)).embed for name, file in named.items()}
    table = Table("", "recall@1", "mean average precision", "95 %", title=f"{len(found.patches)} patches of {run}")
    for name, embed in methods.items():
        vectors = embed(found.patches)
        result = retrieval(vectors, found.where, found.animal, found.sequence, np.random.default_rng(1), QUERIES)
        draws = np.random.default_rng(2).integers(len(result.precision), size=(2000, len(result.precision)))
        low, high = np.quantile(result.precision[draws].mean(axis=1), [0.025, 0.975])
        figures = result.means()
        table.add_row(name, f"{figures['recall@1']:.3f}", f"{figures['map']:.4f}", f"{low:.4f} to {high:.4f}")
    table.caption = f"{figures['queries']} queries; by chance {figures['chance']:.4f}"
    Console().print(table)


def root_sift(found: np.ndarray) -> np.ndarray:
    """(n, 128) float32, rows of length 1, of patches (n, 64, 64) bool."""
    sift, middle = cv2.SIFT.create(), cv2.KeyPoint(SIZE / 2, SIZE / 2, SIZE / 6, 0)  # 4 x 4 bins of 1.5 sizes each
    rows = [sift.compute(patch.astype(np.uint8) * 255, [middle])[1][0] for patch in found]
    vectors = np.array(rows) / np.maximum(np.abs(rows).sum(axis=1, keepdims=True), 1e-9)
    return np.sqrt(vectors)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), dict(text.split("=", 1) for text in sys.argv[3:]))
