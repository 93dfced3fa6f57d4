"""The shell around every training: Ray Train runs a loop of `pusa`, keeps its checkpoints, restarts it after a fault.

A loop is a plain function `loop(config, report, resume)`, the same that a notebook or a test calls without Ray.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pusa.config import Config

Loop = Callable[..., None]


def fit(loop: Loop, config: Config, folder: Path, gpus: float = 0, workers: int = 1) -> None:
    """Runs `loop` in one to `workers` Ray Train workers: as many as there is room for, fewer when some are lost.

    A training of the same settings that was begun in `folder` goes on from there. `loop` calls report(metrics,
    checkpoint directory or None) after each epoch, in every worker. When a worker dies, up to three times, all begin
    again at the last checkpoint; what is lost is the time since then.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(
        _worker,
        train_loop_config={"loop": loop, "config": config, "threads": max(1, (os.cpu_count() or 1) // workers)},
        scaling_config=ScalingConfig(
            num_workers=(1, workers) if workers > 1 else 1,  # type: ignore[arg-type]
            use_gpu=gpus > 0,
            resources_per_worker={"GPU": 1} if gpus else {"CPU": 1},
        ),
        run_config=RunConfig(
            name=hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:12],
            storage_path=str(folder.resolve()),
            failure_config=FailureConfig(max_failures=3),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    ).fit()


def _worker(arguments: dict[str, Any]) -> None:
    """In the worker: restores, then runs the loop with a `report` that hands checkpoints to Ray."""
    import ray.train

    from pusa.config import set_threads

    set_threads(arguments["threads"])

    def report(metrics: dict[str, Any], checkpoint: Path | None = None) -> None:
        kept = ray.train.Checkpoint.from_directory(checkpoint) if checkpoint else None
        ray.train.report(metrics, checkpoint=kept)

    with tempfile.TemporaryDirectory() as folder:
        last = ray.train.get_checkpoint()
        resume = Path(last.to_directory(folder)) if last else None
        arguments["loop"](arguments["config"], report=report, resume=resume)
