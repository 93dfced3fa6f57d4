"""Synthetic archives drawn by a Ray cluster: a task a sequence, on as many machines as there are.

All nodes must see the folder of the archive (a shared file system).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from pusa.synthetic.archive import Work
from pusa.synthetic.planning import Sequence


def cluster_tasks(work: Work, items: list[Sequence]) -> Iterator[Sequence]:
    """Runs `work` on each item in the Ray session that is there; a task that dies with its machine is done again."""
    import ray

    @ray.remote(num_cpus=1, max_retries=3)
    def draw(item: Sequence) -> Sequence:
        from pusa.config import set_threads

        set_threads(1)
        return work(item)

    waiting = iter(items)
    # Twice as many as there are cores: enough to keep them busy, and the queue stays short for any archive.
    running = [draw.remote(item) for item in islice(waiting, 2 * int(ray.cluster_resources()["CPU"]))]
    while running:
        (done,), running = ray.wait(running)
        running += [draw.remote(item) for item in islice(waiting, 1)]
        yield ray.get(done)
