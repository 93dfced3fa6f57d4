"""What `pusa process` would do, said before anything is done: `--explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import cluster
from pipelines.basis import basis_of, known_photos, unchanged
from pipelines.index import index
from pipelines.process import ProcessConfig
from pipelines.reuse import reusable
from pusa.listing import list_photos
from pusa.records import Run
from pusa.stages import RESTS_ON, outdated


@dataclass(frozen=True)
class Work:
    """What is to be done. `whole`: photos that go through all stages; `part`: those of another run, through `again`."""

    photos: str
    whole: int
    part: int
    again: list[str]
    encounters: str


def explain(
    archive: str,
    out: str,
    config: ProcessConfig,
    given: str | None,
    cpus: float,
    gpus: float,
    source: str | None = None,
) -> list[tuple[str, str]]:
    """What `process` would do with so many CPUs and GPUs, as lines of (what, how); nothing is written."""
    work = work_of(archive, out, config, given, source)
    stages = config.stages(archive, given)
    share = cluster.share(cpus, gpus)
    size = config.photos_per_block or share.photos_per_block
    takes = f"{share.gpus:g} GPU" if share.gpus else f"{share.cpus:.2g} CPU"
    lines = [("photos", work.photos)]
    if work.part:
        lines.append(("from the other run", f"{work.part} photos: {' and '.join(work.again) or 'no stage'} again"))
    lines += [
        ("encounters", work.encounters),
        ("blocks", f"{-(-(work.whole + work.part) // size)} of {size} photos"),
        ("resources", f"{cpus:g} CPUs, {gpus:g} GPUs"),
        ("actors", f"{share.actors}, of one thread and {takes} each"),
        ("each of them runs", " > ".join([*(stage.__name__ for stage, _ in stages), "PhotoWriter"])),
        ("and then", "ShardEncoder, one a core"),
    ]
    earlier = [Run(uri).manifest() for uri in (out, source) if uri and Run(uri).exists()]
    names = dict(zip(RESTS_ON, (stage.__name__ for stage, _ in stages), strict=True))
    return [*lines, ("time", time_of(work, [names[s] for s in work.again], earlier, cpus, gpus))]


def work_of(archive: str, out: str, config: ProcessConfig, given: str | None, source: str | None) -> Work:
    """Compares the archive with what is in the run, and with what can be taken from another one."""
    run = Run(out)
    basis, begun = basis_of(archive, config, given), run.exists()
    if begun:
        unchanged(run, basis)
    known = known_photos(archive, run, source, config)
    if known is None:  # headers are not read, or the plan would take as long as the index
        listed = len(list_photos(archive).files)
        return Work(f"{listed} in {archive}, 0 of them done in {out}", listed, 0, [], "of all sequences")
    summary = index(archive, None, config.index, given=given, known=known)
    done = run.read("photos", ["photo_id"])["photo_id"].combine_chunks() if begun else pa.array([], pa.string())
    todo = known.filter(pc.invert(pc.is_in(known["photo_id"], value_set=done)))
    again = outdated(Run(source).manifest(), basis) if source else list(RESTS_ON)
    part = sum(len(block) for block in reusable(Run(source), todo)) if source and "detector" not in again else 0
    photos = f"{summary.photos} in {archive}, {len(done)} of them done in {out}; {summary.new} are new"
    whole = len(todo) - part + summary.new
    if not begun:
        return Work(photos, whole, part, again, "of all sequences")
    changed = f"of {summary.changed_sequences} sequences that are new or change, and of those that are not finished"
    return Work(photos, whole, part, again, changed)


def time_of(work: Work, again: list[str], manifests: list[dict[str, Any]], cpus: float, gpus: float) -> str:
    """How long it takes by what an earlier run cost: the work of a photo, by stages, is what it was there. `again`: the
    names of the stages that reused photos go through."""
    unit, units = ("gpu", gpus) if gpus else ("core", cpus)
    for cost in (m.get("cost", {}) for m in manifests):
        seconds, stages = cost.get(f"{unit}_seconds", 0), cost.get("stages", {})
        if seconds and cost.get("photos"):
            share = sum(stages.get(name, 0) for name in again) / max(sum(stages.values()), 1e-9)
            hours = seconds / cost["photos"] * (work.whole + share * work.part) / 3600
            return f"about {hours / units:.2g} h and {hours:.2g} {unit.upper() if gpus else unit} hours, as before"
    return "not known before a first run on such machines; its manifest says what it cost"
