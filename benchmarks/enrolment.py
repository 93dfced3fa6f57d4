"""Enrolment, end to end: `python benchmarks/enrolment.py RUN`.

All encounters of a finished run become those of a new gallery, ROUNDS times; and once more with key points found anew
in the crops, as for a run that does not have them.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch

from pusa.gallery import geometry
from pusa.gallery.enrolment import enroll
from pusa.gallery.store import Gallery
from pusa.records import Run

ROUNDS = 5


def measured(run: Run, folder: Path) -> tuple[float, float]:
    """Seconds of wall time and of CPU; the gallery is removed before."""
    shutil.rmtree(folder, ignore_errors=True)
    began, began_cpu = time.perf_counter(), time.process_time()
    enroll(run, str(folder))
    return time.perf_counter() - began, time.process_time() - began_cpu


def main(uri: str) -> None:
    torch.set_num_threads(1)
    run = Run(uri)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "gallery"
        kept = [min(each) for each in zip(*(measured(run, folder) for _ in range(ROUNDS)), strict=True)]
        crops = Gallery.open(str(folder)).encounters.search().select(["crops"]).to_arrow()["crops"].to_pylist()
        with mock.patch.object(geometry, "as_found", return_value=False):
            anew = measured(run, folder)
    print(f"{len(crops)} encounters with {sum(map(len, crops))} crops")
    for name, (wall, cpu) in {f"best of {ROUNDS}": kept, "key points found anew, once": anew}.items():
        print(f"{name:28} {len(crops) / wall:6.1f} encounters a second, {len(crops) / cpu:6.1f} a second of CPU")
    print(f"{anew[1] / kept[1]:.1f} times the CPU")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    main(parser.parse_args().run)
