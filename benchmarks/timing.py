"""Jobs timed in turns, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable


def best_of(jobs: dict[str, Callable[[], object]], rounds: int = 5) -> tuple[dict[str, float], dict[str, float]]:
    """Wall seconds and CPU seconds of each job's best round, after one round to warm up."""
    wall, cpu = dict.fromkeys(jobs, float("inf")), dict.fromkeys(jobs, float("inf"))
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            began, began_cpu = time.perf_counter(), time.process_time()
            job()
            if turn:
                wall[name] = min(wall[name], time.perf_counter() - began)
                cpu[name] = min(cpu[name], time.process_time() - began_cpu)
    return wall, cpu
