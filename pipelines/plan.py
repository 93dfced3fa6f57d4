"""What `pusa process` would do, said before anything is done: `--explain`."""

from __future__ import annotations

from pipelines import cluster
from pipelines.process import ProcessConfig
from pusa.photos import list_photos
from pusa.records import Run


def explain(
    archive: str, out: str, config: ProcessConfig, given: str | None, cpus: float, gpus: float
) -> list[tuple[str, str]]:
    """What `process` would do with so many CPUs and GPUs, as lines of (what, how); nothing is written."""
    run = Run(out)
    listed = len(list_photos(archive).files)
    done = len(run.read("photos", ["photo_id"])) if run.exists() else 0
    stages = config.stages(archive, given)
    share = cluster.share(len(stages), cpus, gpus)
    takes = f"{share.gpus:g} GPU" if share.gpus else f"{share.cpus:.2g} CPU, {share.threads} thread"
    lines = [
        ("photos", f"{listed} in {archive}, {done} of them done in {out}"),
        ("blocks", f"{-(-max(listed - done, 0) // config.photos_per_block)} of {config.photos_per_block} photos"),
        ("resources", f"{cpus:g} CPUs, {gpus:g} GPUs"),
    ]
    actors = f"{share.actors} actor{'s' if share.actors > 1 else ''} of {takes} each"
    lines += [(stage.__name__, actors) for stage, _ in stages]
    return [*lines, ("PhotoWriter", f"{share.actors}, wherever there is room"), ("ShardEncoder", "one a core")]
