"""What faults cost: each is injected for real into a run of `pusa process`, whose tables are then compared with those
of a run that was left alone.

    python benchmarks/faults.py OUT [--tries 3] [--only NAME ...]
    python benchmarks/faults.py OUT --resume 2000     # how much a resumed run does twice

A Ray cluster of a head and two workers of three CPUs on this machine; a small drawn archive with its true masks in
place of the detector (photos are decoded all the same), all other stages with light settings; S3 is moto's server
behind a gate. Two of the faults need root (a small disk is a tmpfs). Prints one row a fault: how often it was tried,
how often the run went on by itself or stopped with a message and was resumed, photos lost, doubled and different.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from faulty_s3 import FaultyS3  # noqa: E402

from pipelines import cluster as _settings_of_ray  # noqa: E402, F401  (before Ray is imported)
from pusa.records import Run  # noqa: E402
from pusa.synthetic.archive import processes, synth  # noqa: E402
from pusa.synthetic.settings import SynthConfig  # noqa: E402

LIGHT = """
photos_per_block: {block}
crops: {{longer_side: 256}}
descriptor: {{size: 64}}
pattern: {{input_size: 128, patches: {{at: grid, stride: 64}}}}
encounters: {{codebook: null}}
"""
# `pusa`, but for the patience with which it waits for another node.
PUSA = "import pipelines.cluster as c; c.PATIENCE_MINUTES = 0.3; from commands.main import main; main()"
LIMIT = 400  # seconds; what takes longer hangs


@dataclass
class Bench:
    """Archive, cluster and S3 server of all tries."""

    folder: Path
    photos: int
    block: int = 4
    s3: FaultyS3 = field(default_factory=FaultyS3)

    def __post_init__(self) -> None:
        os.environ.update(self.s3.environment())
        self.archive = self.folder / "archive"
        plan = {"photos": self.photos, "sequences": self.photos // 10, "individuals": self.photos // 10}
        if not (self.archive / "photos").exists():
            look = {"width": 320, "height": 240}
            synth(self.archive, SynthConfig(seed=12, animals=(1, 3), look=look, **plan), processes(os.cpu_count() or 1))
        self.settings = self.folder / "settings.yaml"
        self.settings.write_text(LIGHT.format(block=self.block))
        self.local = str(self.archive / "photos")

    def upload(self) -> str:
        """The archive in a bucket."""
        import boto3

        client = boto3.client("s3", endpoint_url=self.s3.url, region_name="us-east-1")
        for bucket in ("photos", "results"):
            client.create_bucket(Bucket=bucket)
        for path in sorted(Path(self.local).rglob("*.JPG")):
            client.upload_file(str(path), "photos", str(path.relative_to(self.local)))
        return "s3://photos"

    @contextlib.contextmanager
    def ray(self, workers: int = 2, **node: Any) -> Iterator[Any]:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False} | {k: v for k, v in node.items() if k[0] == "_"}
        made = Cluster(initialize_head=True, head_node_args=head)
        try:
            made.workers = [made.add_node(num_cpus=3, **node) for _ in range(workers)]
            made.wait_for_nodes()
            yield made
        finally:
            made.shutdown()


class Job:
    """`pusa process` as its own process; `log` is what it prints."""

    def __init__(self, bench: Bench, archive: str, out: str, address: str) -> None:
        command = [sys.executable, "-c", PUSA, "process", archive, "--out", out, "--address", address]
        command += ["--instances", str(bench.archive / "truth" / "instances.json"), "--config", str(bench.settings)]
        self.out, self.path = out, bench.folder / "log"
        with self.path.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        self.began = time.monotonic()

    def blocks(self, n: int) -> None:
        """Waits until `n` blocks are written, or the job has ended."""
        while self.process.poll() is None and len(Run(self.out).files("photos")) < n:
            time.sleep(0.05)

    def wait(self) -> int:
        try:
            return self.process.wait(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait() or 1

    @property
    def log(self) -> str:
        return self.path.read_text()


def actors(name: str = "") -> list[int]:
    """The processes of the pools; `name`: of one stage."""
    titles = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            titles[int(file.parent.name)] = file.read_bytes().split(b"\0")[0].decode(errors="replace")
    return sorted(pid for pid, t in titles.items() if t.startswith("ray::") and "MapWorker" in t and name in t)


def connected(pid: int, port: int) -> bool:
    """Whether a process holds the connection that comes from `port` of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}")}
    held = set()
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            held.add(os.readlink(link))
    return bool(sockets & held)


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
            for pid in actors("PhotoDetector"):
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
    chosen = [c for c in CASES + CROWDED if not only or any(text in c.name for text in only)]
    reference = Run(str(folder / "reference"))
    with bench.ray() as ray:
        if not reference.exists() and Job(bench, bench.local, reference.uri, ray.address).wait():
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


def resume(folder: Path, photos: int) -> None:
    """Kills the driver half-way and counts, at the gate of S3, how often each photo was read."""
    bench = Bench(folder, photos, block=8)
    archive = bench.upload()
    with bench.ray() as ray:
        out = str(folder / f"run-{time.time_ns()}")
        job = Job(bench, archive, out, ray.address)
        job.blocks(photos // bench.block // 2)
        kill_driver(bench, ray, job, random.Random(0))
        job.wait()
        done = len(Run(out).read("photos", ["photo_id"]))
        began = time.monotonic()
        code = Job(bench, archive, out, ray.address).wait()
        reads = sum(n - 1 for path, n in bench.s3.reads.items() if path.endswith(".JPG"))  # one is the index's
        rows = len(set(Run(out).read("photos", ["photo_id"])["photo_id"].to_pylist()))
        print(f"{photos} photos, killed at {done}; resumed in {time.monotonic() - began:.0f} s (exit {code}); "
              f"{rows} rows; read {reads} times: {reads - photos} twice, {(reads - photos) / photos:.1%}")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--resume", type=int)
    given = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.resume:
        resume(given.out.resolve(), given.resume)
    else:
        faults(given.out.resolve(), given.tries, given.only)
