"""How much of a run is done twice when its driver is killed half-way and the command is given again.

    python benchmarks/resume.py OUT [--photos 2000]

Archive, cluster and settings are those of benchmarks/faults.py; photos are copies of a hundred drawn ones, no two
equal. The archive is in a bucket, whose server counts how often each photo is read.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from pathlib import Path

from disturbed import Bench, Job

from pusa.records import Run


def copied(archive: Path, out: Path, copies: int) -> Path:
    """An archive of so many copies of each photo, no two of them equal, with their masks."""
    truth = json.loads((archive / "truth" / "instances.json").read_text())
    images, annotations = [], []
    for n in range(copies):
        for path in (archive / "photos").rglob("*.JPG"):
            copy = out / "photos" / str(n) / path.relative_to(archive / "photos")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes() + n.to_bytes(4, "big"))  # behind the end of the JPEG
        first, each = n * len(truth["images"]), n * len(truth["annotations"])
        numbers = {image["id"]: first + k for k, image in enumerate(truth["images"])}
        images += [i | {"id": numbers[i["id"]], "file_name": f"{n}/{i['file_name']}"} for i in truth["images"]]
        annotations += [
            a | {"id": each + k, "image_id": numbers[a["image_id"]]} for k, a in enumerate(truth["annotations"])
        ]
    (out / "truth").mkdir(exist_ok=True)
    content = truth | {"images": images, "annotations": annotations}
    (out / "truth" / "instances.json").write_text(json.dumps(content))
    return out


def resume(folder: Path, photos: int) -> None:
    """Kills the driver half-way and counts, at the gate of S3, how often each photo was read."""
    bench = Bench(folder, photos=100, block=8)
    bench.archive = copied(bench.archive, folder / "copies", photos // 100)
    bench.local = str(bench.archive / "photos")
    archive = bench.upload()
    with bench.ray() as ray:
        out = str(folder / f"run-{time.time_ns()}")
        job = Job(bench, archive, out, ray.address)
        job.blocks(photos // bench.block // 2)
        job.process.send_signal(signal.SIGKILL)
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
    parser.add_argument("--photos", type=int, default=2000)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    resume(given.out.resolve(), given.photos)
