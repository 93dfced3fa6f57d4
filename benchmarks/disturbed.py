"""What benchmarks/faults.py and benchmarks/resume.py share: a small archive, a cluster of several nodes, an S3 server,
and `pusa process` as a process that can be killed."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
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

logging.getLogger("werkzeug").setLevel(logging.ERROR)

LIGHT = """
photos_per_block: {block}
crops: {{longer_side: 256}}
descriptor: {{size: 64}}
pattern: {{input_size: 128, patches: {{at: grid, stride: 64}}}}
encounters: {{codebook: null}}
"""
# `pusa`, but for the patience with which it waits for another node.
PUSA = "import pipelines.cluster as c; c.PATIENCE_MINUTES = 0.3; from commands.main import main; main()"
LIMIT = 1200  # seconds; what takes longer hangs


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


def actors() -> list[int]:
    """The processes of the pool."""
    titles = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            titles[int(file.parent.name)] = file.read_bytes().split(b"\0")[0].decode(errors="replace")
    return sorted(pid for pid, t in titles.items() if t.startswith("ray::") and "MapWorker" in t)


def connected(pid: int, port: int) -> bool:
    """Whether a process holds the connection that comes from `port` of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}")}
    held = set()
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            held.add(os.readlink(link))
    return bool(sockets & held)
