"""What faults cost: each is injected for real into a run of `pusa process`, whose tables are then compared with those
of a run that was left alone.

    python benchmarks/faults.py OUT [--tries 3] [--only NAME ...]

A Ray cluster of a head and two workers of three CPUs on this machine; a small drawn archive with its true masks in
place of the detector (photos are decoded all the same), all other stages with light settings; S3 is moto's server
behind a gate. Two of the faults need root (a small disk is a tmpfs). Prints one row a fault: how often it was tried,
how often the run went on by itself or stopped with a message and was resumed, photos lost, doubled and different.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disturbed import Bench, Job, actors, connected

from pusa.records import Run

# Each fault: what is done to a job in mid-run, and what puts it right before the job is resumed.
Fault = Callable[[Bench, Any, Job, random.Random], Callable[[], None] | None]


def lose_node(bench: Bench, ray: Any, job: Job, rng: random.Random) -> Callable[[], None]:
    ray.remove_node(ray.workers.pop(rng.randrange(2)), allow_graceful=False)
    return lambda: None


def replace_node(bench: Bench, ray: Any, job: Job, rng: random.Random) -> None:
    lose_node(bench, ray, job, rng)
    ray.workers.append(ray.add_node(num_cpus=3))


def kill_actor(bench: Bench, ray: Any, job: Job, rng: random.Random) -> None:
    os.kill(rng.choice(actors()), signal.SIGKILL)


def kill_driver(bench: Bench, ray: Any, job: Job, rng: random.Random) -> None:
    job.process.send_signal(signal.SIGKILL)


def busy_bucket(bench: Bench, ray: Any, job: Job, rng: random.Random) -> None:
    """A third of the requests is refused, half of these by a broken connection; for five seconds all are."""
    end = time.monotonic() + 5
    bench.s3.fault = lambda request: (
        503 if time.monotonic() < end or rng.random() < 1 / 6 else "drop" if rng.random() < 1 / 5 else None
    )


def slow_bucket(bench: Bench, ray: Any, job: Job, rng: random.Random) -> None:
    bench.s3.delay = 0.3


def dead_bucket(bench: Bench, ray: Any, job: Job, rng: random.Random) -> Callable[[], None]:
    bench.s3.fault = lambda request: 503
    return lambda: setattr(bench.s3, "fault", lambda request: None)


def full_disk(bench: Bench, ray: Any, job: Job, rng: random.Random) -> Callable[[], None]:
    """The run's own disk has room for half of it; afterwards for all."""
    return lambda: subprocess.run(["mount", "-o", "remount,size=1g", str(Path(job.out).parent)], check=True)  # type: ignore[return-value]


def nothing(bench: Bench, ray: Any, job: Job, rng: random.Random) -> None:
    """The fault is in the cluster, which was made so."""


@dataclass(frozen=True)
class Case:
    name: str
    fault: Fault
    in_bucket: bool = False
    after: int = 3  # blocks


CASES = [
    Case("a worker node is killed, another comes", replace_node),
    Case("a worker node is killed, none comes", lose_node),
    Case("an actor is killed", kill_actor),
    Case("the driver is killed (SIGKILL)", kill_driver),
    Case("the run's disk is full", full_disk, after=0),
    Case("S3 is busy: 503s and broken connections", busy_bucket, in_bucket=True),
    Case("S3 is slow: .3 s more an answer", slow_bucket, in_bucket=True),
    Case("S3 is away: 503 to everything", dead_bucket, in_bucket=True),
    Case("a photo kills its actor", nothing, in_bucket=True),
]
CROWDED = [
    Case("the object store is full", nothing, after=0),
    Case("the object store and the disk behind it are full", nothing, after=0),
]


def compare(out: str, reference: Run, poison: str | None = None) -> dict[str, float]:
    """Photos that are lost, doubled, different; and encounters that differ. `poison`: the path of one that may."""
    mine, theirs = (r.read("photos").sort_by("photo_id").to_pylist() for r in (Run(out), reference))
    found: dict[str, list[dict[str, Any]]] = {}
    for row in mine:
        found.setdefault(row["path"], []).append(row)
    ids = ("photo_id", "duplicate_of")  # in a bucket times differ, and with them ids
    expected = {row["path"]: row for row in theirs}

    def content(row: dict[str, Any]) -> dict[str, Any]:
        nested = [{k: v for k, v in i.items() if k != "instance_id"} for i in row["instances"]]
        return {k: v for k, v in row.items() if k not in ids} | {"instances": nested}

    different = [p for p, rows in found.items() if p != poison and content(rows[0]) != content(expected[p])]
    encounters = [
        sorted((e["encounter_id"], len(e["instance_ids"]), e["n_patches"]) for e in r.read("encounters").to_pylist())
        for r in (Run(out), reference)
    ]
    return {
        "lost": len(expected.keys() - found.keys()),
        "doubled": sum(len(rows) - 1 for rows in found.values()),
        "different": len(different),
        "encounters": 0 if poison else len(set(encounters[0]) ^ set(encounters[1])),
    }


def attempt(bench: Bench, ray: Any, case: Case, number: int, archive: str, reference: Run) -> dict[str, Any]:
    """One try: the job, its fault, and where it stopped the same job again."""
    rng = random.Random(number)
    folder = bench.folder / "try"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    out = f"s3://results/{time.time_ns()}" if case.in_bucket else str(folder / "run")
    poison = poison_photo(bench, archive, rng) if case.name == "a photo kills its actor" else None
    disk = case.fault is full_disk
    if disk:
        half = sum(f.stat().st_size for f in Path(reference.path).rglob("*.parquet")) // 2
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={half}", "tmpfs", str(folder)], check=True)
    try:
        job = Job(bench, archive, out, ray.address)
        job.blocks(case.after)
        mend = case.fault(bench, ray, job, rng)
        code, message = job.wait(), ""
        if code:
            message = "" if code < 0 else job.log.strip().splitlines()[-1]
            if "Traceback" in job.log or (code > 0 and code != 2):
                message = f"NO CLEAR MESSAGE ({code}): {message}"
            print(f"    {message or 'killed'}", flush=True)
            if mend:
                mend()
            again = Job(bench, archive, out, ray.address)
            if again.wait():
                raise SystemExit(f"not resumed: {again.log}")
        return compare(out, reference, poison) | {"stopped": bool(code), "message": message}
    finally:
        if disk:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        bench.s3.fault, bench.s3.delay = (lambda request: None), 0.0
        while len(ray.workers) < 2:
            ray.workers.append(ray.add_node(num_cpus=3))


def poison_photo(bench: Bench, archive: str, rng: random.Random) -> str:
    """From now on a detector that asks for a certain photo is killed, whenever it does."""
    path = rng.choice(sorted(p.relative_to(bench.local).as_posix() for p in Path(bench.local).rglob("*.JPG")))

    def kill(request: dict[str, Any]) -> None:
        if request["PATH_INFO"] == f"/photos/{path}" and request["REQUEST_METHOD"] == "GET":
            for pid in actors():
                if connected(pid, int(request["REMOTE_PORT"])):
                    os.kill(pid, signal.SIGKILL)

    bench.s3.fault = kill
    return path


def told(case: Case, tries: list[dict[str, Any]]) -> None:
    total = {k: sum(t[k] for t in tries) for k in ("lost", "doubled", "different", "encounters", "stopped")}
    print(f"| {case.name} | {len(tries)} | {len(tries) - total['stopped']} | {total['stopped']} | {total['lost']} | "
          f"{total['doubled']} | {total['different']} | {total['encounters']} |", flush=True)  # fmt: skip


def faults(folder: Path, tries: int, only: list[str]) -> None:
    bench = Bench(folder, photos=120)
    archives = {False: bench.local, True: bench.upload()}
    print("| fault | tries | went on | stopped, resumed | photos lost | doubled | different | encounters that differ |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    wanted = only or [""]
    chosen = list(dict.fromkeys(c for text in wanted for c in CASES + CROWDED if text in c.name))
    reference = Run(str(folder / "reference"))
    with bench.ray() as ray:
        if Job(bench, bench.local, reference.uri, ray.address).wait():  # goes on where it was interrupted
            raise SystemExit((folder / "log").read_text())
        for case in [c for c in chosen if c in CASES]:
            done = [attempt(bench, ray, case, n, archives[case.in_bucket], reference) for n in range(tries)]
            told(case, done)
    for case in [c for c in chosen if c in CROWDED]:
        told(case, crowded(bench, case, tries, reference))


def crowded(bench: Bench, case: Case, tries: int, reference: Run) -> list[dict[str, Any]]:
    """An object store of 80 MB beside which something else takes 70; behind it a disk, or one that is full, too."""
    import ray as client

    disk = bench.folder / "spill"
    disk.mkdir(exist_ok=True)
    small = "disk" in case.name
    if small:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)], check=True)
    try:
        with bench.ray(1, object_store_memory=80 * 2**20, object_spilling_directory=str(disk)) as ray:
            ray.workers.append(ray.workers[0])
            return [attempt(bench, ray, case, n, bench.local, reference) for n in range(tries)]
    finally:
        client.shutdown()
        if small:
            subprocess.run(["umount", "-l", str(disk)], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    faults(given.out.resolve(), given.tries, given.only)
