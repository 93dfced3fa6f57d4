"""Peak memory of a whole command: all of its processes together, Ray's too.

    python benchmarks/memory.py pusa process ARCHIVE --out RUN

Linux. Twice a second it adds up the proportional set sizes (PSS: memory that several processes share counts once) of
the command and all that it started. It prints the largest sum of each minute, with the largest kinds of process in it,
and at the end the largest of all and the time. Other programs do not count.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path


def family(known: set[int]) -> set[int]:
    """The processes of `known` that are alive, and their descendants; who lost its parent is known from before."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    alive = known & parents.keys()
    while more := {pid for pid, parent in parents.items() if parent in alive} - alive:
        alive |= more
    return alive


def pss(pid: int) -> int:
    """Bytes of memory of a process, shared pages divided among those that share them; 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)


def title(pid: int) -> str:
    """What a process calls itself, such as ray::MapWorker(PhotoDetector); nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace").rpartition("/")[2]
    except OSError:
        return ""


def main(command: list[str]) -> int:
    began, minute = time.monotonic(), 0
    peaks: list[tuple[int, str]] = []  # of each minute
    process = subprocess.Popen(command)
    pids = {process.pid}
    while process.poll() is None:
        pids = family(pids)
        sizes: Counter[str] = Counter()
        for pid in pids:
            sizes[title(pid)] += pss(pid)
        while len(peaks) <= (minute := int((time.monotonic() - began) / 60)):
            peaks.append((0, ""))
        parts = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in sizes.most_common(8))
        peaks[minute] = max(peaks[minute], (sizes.total(), parts))
        time.sleep(0.5)
    for minute, (peak, parts) in enumerate(peaks):
        print(f"minute {minute:3}: {peak / 2**30:.2f} GiB: {parts}")
    print(f"peak {max(peaks)[0] / 2**30:.2f} GiB, {time.monotonic() - began:.0f} s")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
