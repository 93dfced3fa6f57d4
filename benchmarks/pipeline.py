"""`pusa process` beside a plain loop over the same stages on the same photos.

    python benchmarks/pipeline.py FOLDER [--photos 120] [--json]

Draws an archive of renderer B (seed 11) into FOLDER, unless it is there, and runs over it, one after the other: the
loop with one thread, the loop with as many threads as there are cores (each in a process of its own), the pipeline,
and the pipeline on a tenth of the photos. All clocks start when the networks are loaded (of the pipeline: when its last
actor is ready) and stop when the last photo is written; grouping and encoding are timed apart. Cores: CPU seconds of
the loop / (cores x seconds of the pipeline). Memory of the pipeline: largest sum of the PSS of all processes.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from memory import family, pss
from scale import tell

SEED = 11
Row = tuple[str, str, str]  # what, figure, goal


def archive(folder: Path, photos: int) -> Path:
    from pusa.synthetic.archive import processes, synth
    from pusa.synthetic.settings import SynthConfig

    config = SynthConfig(photos=photos, sequences=max(photos // 8, 1), individuals=12, animals=(1, 6), renderer="b",
                         seed=SEED)  # fmt: skip
    synth(folder / f"archive-{photos}", config, processes(os.cpu_count() or 1))
    return folder / f"archive-{photos}" / "photos"


def loop(photos: Path, out: Path, threads: int) -> tuple[float, float, dict[str, float], int, int, int]:
    """Seconds, CPU seconds, CPU seconds of each stage, photos, crops and patches."""
    import torch

    from pipelines.process import ProcessConfig, ShardEncoder, begin
    from pusa import records
    from pusa.records import Run

    torch.set_num_threads(threads)
    config = ProcessConfig()
    begin(str(photos), str(out), config)
    run = Run(str(out))
    todo = run.read("index").combine_chunks()
    stages = [(kind.__name__, kind(**arguments, threads=threads)) for kind, arguments in config.stages(str(photos))]
    each = dict.fromkeys([name for name, _ in stages], 0.0)
    crops = patches = 0
    began, began_cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(todo), 4):
        batch = todo.slice(start, 4)
        for name, stage in stages:
            cpu = time.process_time()
            batch = stage(batch)
            each[name] += time.process_time() - cpu
        run.write("photos", batch, f"{start:06d}")
        found = [i for row in records.instances(batch) for i in row]
        crops += len(found)
        patches += sum(len(i["patch_boxes"]) for i in found)
    wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    encoder, encoding = ShardEncoder(str(out), config.encounters, threads), time.process_time()
    for shard in sorted(set(todo["shard"].to_pylist())):
        encoder(pa.table({"shard": [shard], "files": [run.files("photos")]}))
    each["ShardEncoder"] = time.process_time() - encoding
    return wall, cpu, each, len(todo), crops, patches


def in_a_process(job: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(job, *arguments).result()


def stamped(kind: type, folder: str) -> type:
    """The stage, leaving a file when it is ready."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__(self, *args, **kwargs)
        Path(folder, f"{kind.__name__}-{os.getpid()}").touch()

    return type(kind.__name__, (kind,), {"__init__": __init__})


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pipeline(photos: Path, out: Path) -> dict[str, float]:
    """Seconds from when the last actor is ready: to the `first` photos, to the `last`, and of the `rest` of the run;
    photos done `before`; CPU seconds of all processes until the last photo; GiB at the `peak`."""
    from pipelines import cluster
    from pipelines.process import ProcessConfig, Progress, begin, process

    ready = Path(f"{out}.ready")
    shutil.rmtree(ready, ignore_errors=True)
    ready.mkdir(parents=True)

    class Stamped(ProcessConfig):
        def stages(self, archive: str, given: str | None = None) -> list:
            return [(stamped(kind, str(ready)), arguments) for kind, arguments in super().stages(archive, given)]

    told: list[tuple[int, float]] = []
    seen: list[tuple[float, float, float]] = []  # time, CPU seconds so far, GiB
    done = threading.Event()

    def watch() -> None:
        """CPU every second; memory, which takes long to read, every tenth: often enough to see the peak."""
        pids, spent, memory = {os.getpid()}, dict[int, float](), 0.0
        for second in itertools.count():
            if done.wait(1):
                return
            pids = family(pids)
            spent |= {pid: max(cpu_of(pid), spent.get(pid, 0.0)) for pid in pids}  # who has ended spent it all the same
            memory = memory if second % 10 else sum(map(pss, pids)) / 2**30
            seen.append((time.time(), sum(spent.values()), memory))

    def report(progress: Progress) -> None:
        if progress.stage == "photos" and progress.done:
            told.append((progress.done, time.time()))

    threading.Thread(target=watch, daemon=True).start()
    with cluster.connect("local"):
        begin(str(photos), str(out), Stamped())
        process(str(photos), str(out), Stamped(), report=report)
        ended = time.time()
    done.set()
    began, last = max(file.stat().st_mtime for file in ready.iterdir()), told[-1][1]
    times, cpu, peak = zip(*seen, strict=True)
    used = np.interp(last, times, cpu) - np.interp(began, times, cpu)
    before = max((n for n, at in told if at <= began), default=0)
    return {"first": told[0][1] - began, "last": last - began, "rest": ended - last, "before": before,
            "cpu": float(used), "peak": max(peak)}  # fmt: skip


def measure(folder: Path, photos: int) -> list[Row]:
    cores = os.cpu_count() or 1
    source = archive(folder, photos)
    few = folder / f"archive-{photos}-few" / "photos"
    shutil.rmtree(few.parent, ignore_errors=True)
    for path in itertools.islice(sorted(p for p in source.rglob("*") if p.is_file()), photos // 10):
        target = few / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for old in ("one", "all", "ray", "ray-few"):
        shutil.rmtree(folder / old, ignore_errors=True)
    wall, cpu, each, n, crops, patches = in_a_process(loop, source, folder / "one", 1)
    wall_all, *_ = in_a_process(loop, source, folder / "all", cores)
    ray, few_ray = in_a_process(pipeline, source, folder / "ray"), in_a_process(pipeline, few, folder / "ray-few")
    counted = {"PhotoDetector": (n, "photos"), "Describer": (crops, "crops"), "PatternExtractor": (crops, "crops"),
               "PatchEmbedder": (patches, "patches"), "ShardEncoder": (n, "photos")}  # fmt: skip
    share = (n - ray["before"]) / n  # of the work that was left when the clock started
    rows = [
        (f"cores busy: {n} photos, {cores} cores; loop {cpu:.0f} s of CPU, pipeline {ray['last']:.0f} s",
         f"{cpu * share / cores / ray['last']:.2f}", ".85"),
        (f"CPU seconds of the loop / of the pipeline, all of Ray's processes ({ray['cpu']:.0f} s)",
         f"{cpu * share / ray['cpu']:.2f}", ""),
        (f"beside the loop with one thread ({wall:.0f} s)", f"{wall * share / ray['last']:.2f}", f"{.85 * cores:.2g}"),
        (f"beside the loop with {cores} threads ({wall_all:.0f} s)", f"{wall_all * share / ray['last']:.2f}", "1"),
        ("first photos after the pools are ready", f"{ray['first']:.1f} s", "20 s"),
        ("grouping, encoding, and what else is at the end", f"{ray['rest']:.1f} s", ""),
        (f"memory of {n} photos beside {n // 10}: {ray['peak']:.2f}, {few_ray['peak']:.2f} GiB",
         f"{ray['peak'] / few_ray['peak']:.2f}", "1"),
    ]  # fmt: skip
    return rows + [
        (f"{name}: {unit} a CPU second ({seconds:.1f} s)", f"{counted[name][0] / seconds:.1f}", "")
        for name, seconds in each.items()
        for unit in [counted[name][1]]
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=120)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measure(arguments.folder.absolute(), arguments.photos)
    tell(rows, arguments.json)


if __name__ == "__main__":
    main()
