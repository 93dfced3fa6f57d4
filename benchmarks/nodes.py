"""Does the scheduler keep many GPUs busy? Several Ray nodes on this machine, 64 logical GPUs, stages that only sleep.

    python benchmarks/nodes.py FOLDER [--nodes 4] [--gpus 64] [--rate 20] [--seconds 90] [--json]

The actors are those of `pusa process`, with one stage, which sleeps 1/20 s a photo, and the writer. Nodes have a core a
GPU, so there is an actor a GPU. Busy: photos that came out after the
last actor was ready, until the last photo / (64 actors x 20 a second x that time).
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from scale import tell

Row = tuple[str, str, str]  # what, figure, goal


class Sleeper:
    """A stage that takes its time and no core."""

    def __init__(self, folder: str, rate: float, threads: int | None = None) -> None:
        self.rate = rate
        Path(folder, str(os.getpid())).touch()

    def __call__(self, photos: pa.Table) -> pa.Table:
        time.sleep(len(photos) / self.rate)
        return photos


def several(nodes: int, each: int) -> Any:
    """Ray nodes of `each` CPUs and GPUs."""
    from ray.cluster_utils import Cluster  # after pipelines.cluster, which sets what Ray reads when it is imported

    machine = Cluster()
    for _ in range(nodes):
        machine.add_node(num_cpus=each, num_gpus=each, object_store_memory=200 << 20, include_dashboard=False)
    return machine


def measure(folder: Path, nodes: int, gpus: int, rate: float, seconds: float) -> list[Row]:
    from pipelines import cluster
    from pipelines.process import ProcessConfig, Progress, process
    from pusa import records
    from pusa.records import Run

    shutil.rmtree(folder, ignore_errors=True)
    ready = folder / "ready"
    ready.mkdir(parents=True)

    class Sleeping(ProcessConfig):
        def stages(self, archive: str, given: str | None = None) -> list:
            return [(Sleeper, {"folder": str(ready), "rate": rate})]

    photos = int(gpus * rate * seconds)
    ids = [f"{n:08d}" for n in range(photos)]
    columns = {"photo_id": ids, "path": ids, "sequence_id": ids, "shard": [0] * photos, "status": ["ok"] * photos,
               "instances": [[]] * photos}  # fmt: skip
    rows = pa.table({f.name: pa.array(columns.get(f.name, [None] * photos), f.type) for f in records.PHOTOS})
    run = Run(str(folder / "run"))
    run.write("index", rows, "index")
    run.write_manifest({"seconds": 0.0})
    told: list[tuple[float, int]] = []

    def report(progress: Progress) -> None:
        if progress.stage == "photos":
            told.append((time.time(), progress.done))

    started = time.time()
    machine = several(nodes, gpus // nodes)
    try:
        with cluster.connect(machine.address):
            process("", run.uri, Sleeping(), report=report)
    finally:
        machine.shutdown()
    stamps = [file.stat().st_mtime for file in ready.iterdir()]
    began, (ended, _) = max(stamps), told[-1]
    before = max(done for at, done in told if at <= began)
    busy = (photos - before) / (gpus * rate * (ended - began))
    size = cluster.share(gpus, gpus).photos_per_block
    return [
        (f"{gpus} sleeping actors on {nodes} nodes, {rate:g} photos a second each: busy for {ended - began:.0f} s, "
         f"{(photos - before) / size / (ended - began):.0f} blocks of {size} a second", f"{busy:.3f}", ".9"),
        (f"start of {nodes} nodes and {len(stamps)} actors", f"{began - started:.0f} s", ""),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--json", action="store_true")
    arguments: Any = parser.parse_args()
    rows = measure(arguments.folder.absolute(), arguments.nodes, arguments.gpus, arguments.rate, arguments.seconds)
    tell(rows, arguments.json)


if __name__ == "__main__":
    main()
