"""Peak memory of a whole command, all of its processes and shared memory together.

    python benchmarks/memory.py pusa process ARCHIVE --out RUN

Samples what the machine has in use (Linux: MemTotal - MemAvailable) twice a second and prints the largest rise over the
start. Ray's workers are no children of the command, so its own resident size would say little; other programs that
start meanwhile count in.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def in_use() -> int:
    """Bytes of memory that cannot be had for the asking."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return (int(fields["MemTotal"].split()[0]) - int(fields["MemAvailable"].split()[0])) * 1024


def main(command: list[str]) -> int:
    before = peak = in_use()
    began = time.monotonic()
    process = subprocess.Popen(command)
    while process.poll() is None:
        peak = max(peak, in_use())
        time.sleep(0.5)
    print(f"peak {(peak - before) / 2**30:.2f} GiB over the start, {time.monotonic() - began:.0f} s")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
