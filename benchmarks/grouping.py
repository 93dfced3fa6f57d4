"""Grouping and its cost: a large archive, shard by shard, and one crowded sequence.

    python benchmarks/grouping.py FOLDER

Writes runs of 20,000 and of 100,000 instances (5 photos of 2 animals a sequence, 1,000 sequences a shard), groups each
in one process, as an actor of `pusa process` does, and prints seconds and peak memory; then every method on a sequence
of 42 photos of 14 animals, the best of 5.
"""

from __future__ import annotations

import datetime as dt
import multiprocessing
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from pipelines.process import ShardEncoder
from pusa import records
from pusa.encounters import EncounterConfig
from pusa.grouping.assign import GroupingConfig, group
from pusa.records import Run

LENGTH = 128  # numbers in a descriptor, as the starter's
PHOTOS, ANIMALS, SHARD = 5, 2, 1000


def write(folder: Path, sequences: int) -> Run:
    """A run that holds nothing but what grouping reads."""
    rng = np.random.default_rng(0)
    run = Run(str(folder))
    for shard in range(sequences // SHARD):
        rows, nested = [], []
        for s in range(shard * SHARD, (shard + 1) * SHARD):
            animals = rng.standard_normal((ANIMALS, LENGTH))
            for p in range(PHOTOS):
                x = animals + 0.5 * rng.standard_normal(animals.shape)
                x /= np.linalg.norm(x, axis=1, keepdims=True)
                corners = rng.uniform(0, 500, (ANIMALS, 2))
                boxes = np.hstack([corners, corners + 80])
                time_ = dt.datetime(2020, 1, 1) + dt.timedelta(seconds=60 * p)
                rows.append({"photo_id": f"{s}-{p}", "path": f"{s}-{p}.jpg", "sequence_id": f"{s:06d}", "shard": shard,
                             "status": "ok", "taken_at": time_})  # fmt: skip
                nested.append([
                    records.new_instance(f"{s}-{p}#{i}", box=b.tolist(), descriptor=d.astype(np.float16))
                    for i, (d, b) in enumerate(zip(x, boxes, strict=True))
                ])  # fmt: skip
        columns = {f.name: pa.array([r.get(f.name) for r in rows], f.type) for f in records.PHOTOS}
        run.write("photos", records.with_instances(pa.table(columns, schema=records.PHOTOS), nested), f"{shard:05d}")
    return run


def measure(folder: Path, shards: int, answer: multiprocessing.Queue) -> None:
    """In a process of its own, so that its peak memory is its own: groups all shards."""
    encoder = ShardEncoder(str(folder), EncounterConfig(codebook=None), threads=1)
    run, began, cpu = Run(str(folder)), time.perf_counter(), time.process_time()
    for shard, file in zip(range(shards), run.files("photos"), strict=True):
        encoder(pa.table({"shard": [shard], "files": [[file]]}))
    answer.put((time.perf_counter() - began, time.process_time() - cpu,
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))  # fmt: skip


def main(folder: Path) -> None:
    table = Table("instances", "sequences", "seconds", "CPU seconds", "peak memory, GiB")
    for sequences in (2_000, 10_000):
        run = write(folder / str(sequences), sequences)
        answer: multiprocessing.Queue = multiprocessing.get_context("spawn").Queue()
        process = multiprocessing.get_context("spawn").Process(
            target=measure, args=(Path(run.path), sequences // SHARD, answer)
        )
        process.start()
        wall, cpu, memory = answer.get()
        process.join()
        table.add_row(
            f"{sequences * PHOTOS * ANIMALS:,}", f"{sequences:,}", f"{wall:.1f}", f"{cpu:.1f}", f"{memory:.2f}"
        )
    Console().print(table)
    for length in (LENGTH, 1280):
        crowded(length)


def crowded(length: int) -> None:
    """One sequence of 42 photos of 14 animals, descriptors of `length` numbers."""
    rng = np.random.default_rng(0)
    animals = rng.standard_normal((14, length))
    photos = [animals + rng.standard_normal(animals.shape) for _ in range(42)]
    photos = [p / np.linalg.norm(p, axis=1, keepdims=True) for p in photos]
    boxes = [np.hstack([c, c + 100]) for c in (rng.uniform(0, 1000, (14, 2)) for _ in photos)]
    for method in ("greedy", "optimal", "open", "agglomerative"):
        taken = []
        for _ in range(5):
            began = time.process_time()
            group(photos, GroupingConfig(method=method), boxes)
            taken.append(time.process_time() - began)
        print(f"42 photos of 14 animals, {length:,} numbers, {method}: {1000 * min(taken):.0f} ms of CPU")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
