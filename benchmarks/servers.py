"""A server as a process of its own: started, waited for, and what it and its descendants take."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def server(command: list[str], address: str, path: str) -> Iterator[subprocess.Popen]:
    """A process that serves `address`, once it answers."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(address + path, timeout=5).status_code == 200:
                    break
            time.sleep(0.5)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def memory(root: int) -> float:
    """MB that a process and all its descendants hold (proportional set size), files left out: pages of libraries count
    less as soon as anybody else uses them, too."""
    total = 0.0
    for pid in _tree(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += int(line.split()[1]) / 1024
    return total


def cpu(root: int) -> float:
    """CPU seconds that a process and all its descendants have taken."""
    ticks = 0
    for pid in _tree(root):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _tree(root: int) -> Iterator[int]:
    pids = [root]
    while pids:
        pid = pids.pop()
        yield pid
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():  # any thread may have started a process
                pids += [int(p) for p in (task / "children").read_text().split()]
