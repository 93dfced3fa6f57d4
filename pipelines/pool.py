"""The actors that photos stream through. Each runs all stages in a row, and tells how long each takes.

So all cores are busy, however unlike the stages are, and nothing but file names and counts passes between processes.
"""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Any

import pyarrow as pa

SECONDS = "seconds of "  # columns of a batch: what a stage took for each row


class StageActor:
    """Runs `stages`, classes with their arguments, on a batch, each on what the one before it returned.

    The result has a column "seconds of STAGE" for every stage so far; Ray's metrics get it too, with the run's id.
    """

    def __init__(self, stages: list[tuple[type, dict[str, Any]]], run: str) -> None:
        from ray.util.metrics import Counter

        self.stages = [(kind.__name__, kind(**arguments)) for kind, arguments in stages]
        self.seconds = Counter("pusa_stage_seconds", "Seconds of work of a stage.", ("run", "stage"))
        self.rows = Counter("pusa_stage_rows", "Photos (or shards) that came out of a stage.", ("run", "stage"))
        self.waited = Counter("pusa_wait_seconds", "Seconds in which an actor had nothing to do.", ("run",))
        self.run, self.idle_since = run, time.perf_counter()

    def __call__(self, batch: pa.Table) -> pa.Table:
        began = time.perf_counter()
        self.waited.inc(began - self.idle_since, {"run": self.run})
        for name, stage in self.stages:
            rows, tags = len(batch), {"run": self.run, "stage": name}
            batch = stage(batch)
            now = time.perf_counter()
            self.seconds.inc(now - began, tags)
            self.rows.inc(rows, tags)
            each = pa.array([(now - began) / max(len(batch), 1)] * len(batch), pa.float64())
            batch = batch.append_column(SECONDS + name, each)
            began = now
        give_back()
        self.idle_since = time.perf_counter()
        return batch


def give_back() -> None:
    """Returns freed memory to the system: Arrow keeps what its largest table took, and glibc, of crops of all sizes,
    pieces between those in use, some 300 KB more a photo, for hours."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def seconds_of(row: dict[str, Any]) -> dict[str, float]:
    """Seconds by stage, of a row as it comes out of the pool."""
    return {name.removeprefix(SECONDS): float(row[name]) for name in row if name.startswith(SECONDS)}
