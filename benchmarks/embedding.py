"""Ways to train the patch network, beside one another: losses, sources of patches, and the network's own settings.

    python benchmarks/embedding.py OUT --train RUN:ARCHIVE --test RUN:ARCHIVE [--artificial SET] [--steps 600]
                                   [--rows loss] ...

Each row trains a network from scratch, with the same seed and as many steps of 128 patches (but for the paper's
schedule, which has its own), on places of the processed synthetic archives --train and on drawn coats; then finds
places again in each archive --test, as `benchmarks/patches.py` does: mean average precision, 95 % by resampling
queries. --rows takes those whose name holds a word. Minutes are CPU time of the training.
"""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from pusa.embedding import coats, network, seen
from pusa.embedding.embed import EmbeddingConfig, PatchEmbedder
from pusa.embedding.evaluate import retrieval
from pusa.embedding.train import PAPER, EmbeddingTask, EmbeddingTraining
from pusa.records import Run
from pusa.steps import run

PATCHES, QUERIES = 20_000, 1000
ALONE: dict[str, Any] = {"coats": 0, "seen": ()}
ROWS: dict[str, dict[str, Any]] = {
    "NT-Xent, then SphereFace": {},
    "loss: NT-Xent alone": {"pretraining": 1},
    "loss: triplets": {"pretraining": 0, "loss": "triplet"},
    "loss: SphereFace from the start": {"pretraining": 0},
    "patches: drawn coats alone": {"seen": ()},
    "patches: photos alone": {"coats": 0},
    "patches: AGE's alone": ALONE,
    "patches: AGE's, the paper's network and schedule": PAPER.model_dump(exclude_unset=True) | ALONE,
    "network: width 16": {"network": {"width": 16}},
    "network: last stride 1": {"network": {"width": 32, "last_stride": 1}},
    "network: input of 96 px": {"network": {"width": 32, "input_size": 96}},
    "network: no attention": {},
    "network: max pooling for SoftPool": {},
    "network: width 64": {"network": {"width": 64}},
    "network: stem stride 1": {"network": {"width": 32, "stem_stride": 1}},
}
SOFT_POOL = network.soft_pool
READ = seen.read


def main(arguments: argparse.Namespace) -> None:
    tests = {name: (Run(name), Path(archive)) for name, archive in arguments.test}
    patches = {n: seen.sample(r, archive, PATCHES, np.random.default_rng(0)) for n, (r, archive) in tests.items()}
    table = Table("trained with", "CPU min", *tests, title=f"mean average precision (95 %), {arguments.steps} steps")
    for name, changes in ROWS.items():
        if arguments.rows not in name or (not arguments.artificial and "AGE" in name):
            continue
        base = {"batch": 128, "pretraining": 0.8, "coats": 300, "seen": arguments.train, "steps": arguments.steps}
        artificial = (arguments.artificial,) if "AGE" in name else ()
        began = time.process_time()
        trained = train(name, base | {"artificial": artificial, "out": arguments.out / "network.safetensors"} | changes)
        minutes = (time.process_time() - began) / 60
        embedder = PatchEmbedder(EmbeddingConfig(), network=trained)
        figures = []
        for found in patches.values():
            vectors = embedder.embed(found.patches)
            result = retrieval(vectors, found.where, found.animal, found.sequence, np.random.default_rng(1), QUERIES)
            draws = np.random.default_rng(2).integers(len(result.precision), size=(2000, len(result.precision)))
            low, high = np.quantile(result.precision[draws].mean(axis=1), [0.025, 0.975])
            figures.append(f"{result.precision.mean():.4f} ({low:.4f} to {high:.4f})")
        table.add_row(name, f"{minutes:.1f}", *figures)
        print(name, f"{minutes:.1f}", *figures, flush=True)
    Console(width=140).print(table)


def train(name: str, settings: dict[str, Any]) -> nn.Module:
    """The network of a row, at the end of its training."""
    network.soft_pool = SOFT_POOL if "max pooling" not in name else lambda x: F.max_pool2d(x, 3, 2, 1)
    quiet = {"validation_places": 0, "epoch_steps": settings["steps"], "log_every": 100, "workers": 0}
    task = EmbeddingTask(EmbeddingTraining(**settings | quiet))
    if "no attention" in name:
        task.network.attention3, task.network.attention4 = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    run(task, lambda measured, checkpoint: None)
    return task.network


@functools.cache
def read(uri: str, archive: Path) -> seen.SeenPlaces:
    return READ(Run(uri), archive)


def pair(text: str) -> tuple[str, str]:
    first, _, second = text.partition(":")
    return first, second


if __name__ == "__main__":
    # What all rows learn from is read and drawn once.
    seen.read = lambda run, archive: read(run.uri, archive)
    coats.draw_places = functools.cache(coats.draw_places)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=pair, action="append", default=[])
    parser.add_argument("--test", type=pair, action="append", required=True)
    parser.add_argument("--artificial", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rows", default="")
    main(parser.parse_args())
