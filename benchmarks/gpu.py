"""Photos through all stages on one GPU, shared by several processes as the actors of a run share it; without Ray.

    python benchmarks/gpu.py ARCHIVE [--processes 1,4,8,16] [--photos 96]

Each process reads photos of ARCHIVE from the disk, decodes them, finds, describes and extracts as `pusa process` does,
in blocks of 8, and then makes a Fisher vector of each animal. One block of each process comes before the clock starts.
GPU busy: the mean of what nvidia-smi says five times a second; without a GPU the same is measured on cores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import time
from collections import defaultdict
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from pusa import records
from pusa.config import set_threads
from pusa.fisher.codebook import Codebook
from pusa.fisher.encode import fisher_vectors
from pusa.records import PHOTOS
from pusa.stages import StagesConfig

BLOCK = 8


def main(archive: Path, processes: list[int], photos: int) -> None:
    context = multiprocessing.get_context("spawn")
    columns = (
        "processes",
        "photos a second",
        "CPU seconds a photo",
        "GPU busy",
        "GPU memory",
        "s a photo, by stage",
    )
    table = Table(*columns)
    paths = sorted(str(p.relative_to(archive)) for p in archive.rglob("*.[jJ][pP][gG]"))
    for n in processes:
        start, results = context.Barrier(n + 1), context.Queue()
        shares = [[paths[(k + i * n) % len(paths)] for i in range(BLOCK + photos)] for k in range(n)]
        workers = [context.Process(target=work, args=(str(archive), share, start, results)) for share in shares]
        for worker in workers:
            worker.start()
        start.wait()
        began, smi = time.perf_counter(), watch()
        found = [results.get() for _ in workers]
        took = time.perf_counter() - began
        busy, memory = told(smi)
        for worker in workers:
            worker.join()
        seconds = {name: sum(f["seconds"][name] for f in found) for name in found[0]["seconds"]}
        instances = sum(f["instances"] for f in found)
        table.add_row(
            str(n), f"{n * photos / took:.1f}", f"{sum(f['cpu'] for f in found) / n / photos:.2f}", busy, memory,
            ", ".join(f"{name} {s / n / photos:.3f}" for name, s in seconds.items()),
        )  # fmt: skip
        print(f"{n} processes: {n * photos / took:.1f} photos and {instances / took:.1f} animals a second", flush=True)
    Console(width=160).print(table)
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU", "beside", os.cpu_count(), "cores")


def work(archive: str, paths: list[str], start: Barrier, results: Any) -> None:
    """What one process does; one that fails before all start keeps nobody waiting."""
    try:
        measure(archive, paths, start, results)
    except Exception:
        start.abort()
        raise


def measure(archive: str, paths: list[str], start: Barrier, results: Any) -> None:
    """All stages: the first block before all start, the others after."""
    set_threads(1)
    stages = [(kind.__name__, kind(**arguments)) for kind, arguments in StagesConfig().stages(archive)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    codebook = Codebook.load("starter/codebook").to(device)
    seconds: dict[str, float] = defaultdict(float)

    def block(some: list[str]) -> int:
        began = time.perf_counter()
        rows = [{"photo_id": path, "path": path, "status": "ok"} for path in some]
        batch = pa.Table.from_pylist(rows, schema=PHOTOS)
        for name, stage in stages:
            batch = stage(batch)
            began = clock(name, began)
        animals = [instance for nested in records.instances(batch) for instance in nested]
        known = [i["embeddings"] for i in animals if i["embeddings"] is not None]
        fisher_vectors(codebook, [e.reshape(-1, len(codebook.center)) for e in known])
        clock("Fisher vectors", began)
        return len(animals)

    def clock(name: str, began: float) -> float:
        now = time.perf_counter()
        seconds[name] += now - began
        return now

    block(paths[:BLOCK])
    seconds.clear()
    start.wait()
    cpu = time.process_time()
    instances = sum(block(paths[i : i + BLOCK]) for i in range(BLOCK, len(paths), BLOCK))
    results.put({"seconds": dict(seconds), "cpu": time.process_time() - cpu, "instances": instances})


def watch() -> subprocess.Popen[str] | None:
    """nvidia-smi, which writes how busy the GPU is; None where there is none."""
    if not torch.cuda.is_available():
        return None
    what = ["--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "200"]
    return subprocess.Popen(["nvidia-smi", *what], stdout=subprocess.PIPE, text=True)


def told(smi: subprocess.Popen[str] | None) -> tuple[str, str]:
    """Its mean share of busy time, and the most memory that was in use."""
    if smi is None:
        return "", ""
    smi.terminate()
    rows = [line.split(",") for line in smi.communicate()[0].splitlines() if line.count(",") == 1]
    return f"{np.mean([float(b) for b, _ in rows]):.0f} %", f"{max(float(m) for _, m in rows) / 1024:.1f} GiB"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--processes", default="1,4,8,16", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--photos", default=96, type=int, help="of each process")
    arguments = parser.parse_args()
    main(arguments.archive, arguments.processes, arguments.photos)
