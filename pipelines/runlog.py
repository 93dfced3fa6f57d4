"""What a run does and what it costs, told in three ways: lines in its folder, Ray's metrics, and its manifest.

    RUN/log/20260301T120000Z.jsonl   one JSON object a line: time, run, event, and what belongs to the event
    RUN/manifest.json, "cost"        seconds of each stage, photos, cores and GPUs times wall time, of all sessions

Files of the log are written whole, one a minute, since nothing can be appended to a file on object storage.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from pipelines.pool import seconds_of
from pusa import storage
from pusa.records import Run

EVERY = 60.0  # seconds between two files of the log, and between two manifests


def now() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


class RunLog:
    """The log of one session of a run. `manifest` is kept up to date, and written every minute and at the end."""

    def __init__(self, run: Run, manifest: dict[str, Any], cpus: float, gpus: float) -> None:
        from ray.util.metrics import Counter, Gauge

        self.run, self.manifest = run, manifest
        self.id: str = manifest.setdefault("run_id", uuid.uuid4().hex[:12])
        nothing = {"photos": 0, "instances": 0, "errors": 0, "core_seconds": 0.0, "gpu_seconds": 0.0, "stages": {}}
        self.cost: dict[str, Any] = manifest.setdefault("cost", nothing)
        self.counters = {
            name: Counter(f"pusa_{name}", f"{name.capitalize()} that are written.", ("run",))
            for name in ("photos", "instances", "errors")
        }
        self.left = Gauge("pusa_photos_left", "Photos that are not written yet.", ("run",))
        self.cpus, self.gpus = cpus, gpus
        self.lines: list[str] = []
        self.clock = self.written = time.monotonic()
        self.event("begun", cpus=cpus, gpus=gpus)

    def event(self, name: str, **fields: Any) -> None:
        """One line of the log."""
        self.lines.append(json.dumps({"time": now(), "run": self.id, "event": name, **fields}))

    def row(self, row: dict[str, Any], left: int | None = None) -> None:
        """What came out of the pool: the seconds of its stages; with `left`, photos that are still to be done, it
        is a block of photos."""
        seconds = {stage: round(value, 3) for stage, value in seconds_of(row).items()}
        for stage, value in seconds.items():
            self.cost["stages"][stage] = round(self.cost["stages"].get(stage, 0.0) + value, 3)
        if left is not None:
            counts = {"photos": row["photos"], "instances": row["instances"], "errors": len(row["errors"])}
            for name, value in counts.items():
                self.cost[name] += value
                if value:  # Ray counts nothing but more
                    self.counters[name].inc(value, {"run": self.id})
            self.left.set(left, {"run": self.id})
            self.event("block", block=row["block"], **counts, reasons=row["errors"], seconds=seconds)
        else:
            self.event("shard", seconds=seconds)
        if time.monotonic() - self.written > EVERY:
            self.write()

    def write(self) -> None:
        """Writes the lines since the last time as a file, and the manifest with the cost up to now."""
        passed, self.clock = time.monotonic() - self.clock, time.monotonic()
        self.manifest["seconds"] = round(self.manifest["seconds"] + passed, 1)
        self.cost["core_seconds"] = round(self.cost["core_seconds"] + passed * self.cpus, 1)
        self.cost["gpu_seconds"] = round(self.cost["gpu_seconds"] + passed * self.gpus, 1)
        self.run.write_manifest(self.manifest)
        # Two sessions may not end within a second; the log's first line says when.
        storage.write_bytes(self.run.fs, self.run.file("log", f"{now()}.jsonl"), "\n".join([*self.lines, ""]).encode())
        self.lines, self.written = [], time.monotonic()
