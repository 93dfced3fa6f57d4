"""Does a training whose workers come and go end as well as one that nobody disturbs?

    python benchmarks/elastic.py OUT --archive ARCHIVE --validation ARCHIVE [--steps 240]

The U-Net, from scratch, by `training.trainer.fit`, as `pusa train pattern --workers 2` runs it, in a Ray cluster of a
head and two nodes of one CPU on this machine. Once undisturbed; once with a node killed after a third of the steps and
another one added after half of them, so that there are two workers, then one, then two; once with one worker. Prints
how many workers there were at each epoch, and loss and measures of the held-out archive at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("PYTHONPATH", str(ROOT))

from pipelines import cluster  # noqa: E402  (before Ray is imported)
from pusa.pattern.train import PatternTraining  # noqa: E402
from training.trainer import fit  # noqa: E402


def epochs(out: Path) -> list[dict[str, Any]]:
    file = out.with_suffix(".epochs")
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def loop(config: PatternTraining, report: Any, resume: Path | None = None) -> None:
    """The training itself; the first worker also notes each epoch and how many workers there are."""
    from pusa.pattern.train import loop as train
    from pusa.steps import rank, world

    def noted(metrics: dict[str, Any], checkpoint: Path | None = None) -> None:
        if rank() == 0:
            with config.out.with_suffix(".epochs").open("a") as file:
                file.write(json.dumps(metrics | {"workers": world(), "time": time.time()}) + "\n")
        report(metrics, checkpoint)

    train(config, noted, resume)


def after(config: PatternTraining, share: float, workers: int) -> None:
    """Waits until a share of the steps is done, by so many workers."""
    while not any(e["step"] >= share * config.steps and e["workers"] == workers for e in epochs(config.out)):
        time.sleep(0.5)


def disturb(ray_cluster: Any, nodes: list[Any], config: PatternTraining) -> None:
    after(config, 1 / 3, 2)
    ray_cluster.remove_node(nodes.pop(), allow_graceful=False)
    print("a node is killed", flush=True)
    after(config, 1 / 2, 1)
    nodes.append(ray_cluster.add_node(num_cpus=1))
    print("a node is added", flush=True)


def main(out: Path, archives: list[Path], validation: list[Path], steps: int, seed: int) -> None:
    from ray.cluster_utils import Cluster

    print(
        "| training | workers at each epoch | epochs done twice | loss | F1 | centreline Dice | minutes |", flush=True
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for name, lost, workers in (("undisturbed", False, 2), ("disturbed", True, 2), ("one worker", False, 1)):
        folder = out / f"{name.replace(' ', '-')}-{time.time_ns()}"
        folder.mkdir(parents=True)
        config = PatternTraining(
            archives=tuple(archives), validation=tuple(validation), out=folder / "pattern.safetensors", steps=steps,
            epoch_steps=steps // 12, batch=4, window=128, max_crops=300, validation_crops=24, workers=0, seed=seed,
            log_every=0,
        )  # fmt: skip
        # Not at exit: that would be by signals, which only the main thread may set, and another one adds a node.
        head = {"num_cpus": 0, "include_dashboard": False}
        ray_cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        nodes = [ray_cluster.add_node(num_cpus=1) for _ in range(workers)]
        began = time.monotonic()
        try:
            with cluster.connect(ray_cluster.address):
                if lost:
                    threading.Thread(target=disturb, args=(ray_cluster, nodes, config), daemon=True).start()
                fit(loop, config, folder / "run", workers=workers)
        finally:
            ray_cluster.shutdown()
        told(name, epochs(config.out), began)


def told(name: str, done: list[dict[str, Any]], began: float) -> None:
    workers = " ".join(str(e["workers"]) for e in done)
    twice, last = len(done) - len({e["step"] for e in done}), done[-1]
    measures = " | ".join(f"{last[k]:.3f}" for k in ("loss", "f1", "cldice"))
    print(f"| {name} | {workers} | {twice} | {measures} | {(time.monotonic() - began) / 60:.1f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--archive", type=Path, action="append", required=True)
    parser.add_argument("--validation", type=Path, action="append", required=True)
    parser.add_argument("--steps", type=int, default=480)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    main(given.out.resolve(), given.archive, given.validation, given.steps, given.seed)
