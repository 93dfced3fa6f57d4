"""The main job: an archive becomes a run.

    index -> detect -> describe -> pattern -> embed -> photos       streamed through a pool of actors, one row a photo
                                              photos -> encounters  per shard of whole sequences: group, then encode

Photos are committed in blocks; a block is written whole, under a name made of its photo ids, so work that is repeated
after a fault overwrites itself. A resumed run leaves out the photos that are already there. (Ray Data's own checkpoints
do the same, but their filter wants a whole CPU and 1 GiB beside the pools: on two cores a resumed run waited for ever.)
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines import cluster, reuse
from pipelines.basis import basis_of, known_photos, unchanged
from pipelines.guard import guarded
from pipelines.index import IndexConfig, Summary, index
from pipelines.pool import StageActor
from pipelines.reuse import reusable
from pipelines.runlog import RunLog
from pipelines.settle import settle, shards_of
from pipelines.write import PhotoWriter
from pusa import __version__, exchange, records
from pusa.duplicates import mark_duplicates
from pusa.encounters import EncounterBuilder, EncounterConfig
from pusa.errors import UserError
from pusa.fisher.codebook import Codebook
from pusa.records import Run
from pusa.stages import RESTS_ON, Stage, StagesConfig, outdated

SYSTEMATIC = 200  # photos after which errors are judged: above one half, something is wrong with the archive itself


class ProcessConfig(StagesConfig):
    """Settings of a run: one part a stage."""

    index: IndexConfig = IndexConfig()
    # Unit of progress, of parallel work and of what a fault can cost; null: 4, on large clusters more
    photos_per_block: int | None = Field(None, gt=0)


@dataclass
class Progress:
    """What is done so far; handed to the caller's `report` after each block."""

    stage: str
    total: int
    done: int = 0
    before: int = 0  # done by an earlier, interrupted session
    instances: int = 0
    errors: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


Report = Callable[[Progress], None]


def begin(
    archive: str,
    out: str,
    config: ProcessConfig,
    given: str | None = None,
    command: str = "",
    source: str | None = None,
) -> Summary | None:
    """Starts a run: indexes the archive and writes the manifest.

    Where the run was begun before, only photos that came to the archive since are indexed; where there are none, the
    result is None.

    `given` is a file of instances (`exchange.read_instances`) in place of the detector. `command` is what resumes the
    run. `source` is another run of the archive, whose index is gone on from, too. Raises UserError where the run was
    begun with other settings or weights: results hold for these, never for a name alone.
    """
    run = Run(out)
    basis = basis_of(archive, config, given)
    if config.encounters.codebook:
        Codebook.load(config.encounters.codebook).check(basis["weights"])
    begun = run.exists()
    since = {"version": __version__, "begun": time.strftime("%FT%TZ", time.gmtime()), "seconds": 0.0}
    manifest = unchanged(run, basis) if begun else basis | since
    summary = index(archive, out, config.index, given=given, known=known_photos(archive, run, source, config))
    if given:
        paths = run.read("index", ["path"])["path"].to_pylist()
        summary.notices.extend(exchange.check_instances(exchange.read_instances(given, archive=archive), paths, given))
    if begun and not summary.new and not summary.changed_sequences:
        return None
    run.write_manifest(manifest | {"state": "running", "command": command})
    return summary


def process(
    archive: str,
    out: str,
    config: ProcessConfig,
    given: str | None = None,
    report: Report = lambda progress: None,
    source: str | None = None,
) -> dict[str, Any]:
    """Processes what is not yet done of a run that `begin` started, in Ray's session; returns its manifest.

    Of photos that the run `source` has, only the stages that rest on other settings or weights than there are done
    again. Raises UserError where errors look systematic.
    """
    run = Run(out)
    manifest = run.manifest()
    log = RunLog(run, manifest, *cluster.resources())
    try:
        with cluster.staffed() as moved:

            def told(progress: Progress) -> None:
                moved()
                report(progress)

            _photos(run, archive, config, given, told, source, log)
            settle(run)
            duplicates = mark_duplicates(run)
            _encounters(run, config, told, log)
        manifest |= {"state": "finished", "counts": count(run) | {"duplicates": duplicates}}
        log.event("finished", **manifest["counts"])
    except BaseException as e:
        log.event("stopped", error=f"{type(e).__name__}: {e}"[:1000])
        raise
    finally:
        log.write()
    return manifest


def _photos(
    run: Run, archive: str, config: ProcessConfig, given: str | None, report: Report, source: str | None, log: RunLog
) -> None:
    """Brings the photos that are not in the run yet: from the run `source` where it has them, else from the archive."""
    index = run.read("index")
    done = run.read("photos", ["photo_id", "status"])
    progress = Progress("photos", len(index), len(done), before=len(done))
    progress.errors = pc.sum(pc.equal(done["status"], "error")).as_py() or 0
    report(progress)
    stages = config.stages(archive, given)
    share = cluster.share(*cluster.resources())
    size = config.photos_per_block or share.photos_per_block
    blocks = blocks_of(index, size, done["photo_id"].combine_chunks())
    again = outdated(Run(source).manifest(), run.manifest()) if source else list(RESTS_ON)
    if source and blocks and "detector" not in again:
        reused = list(reusable(Run(source), pa.concat_tables(blocks)))
        _stream(run, reused, reuse.stages(source, again, stages), size, share, progress, report, log)
        blocks = blocks_of(index, size, run.read("photos", ["photo_id"])["photo_id"].combine_chunks())
    _stream(run, blocks, stages, size, share, progress, report, log)


def _stream(
    run: Run,
    blocks: list[pa.Table],
    stages: list[Stage],
    size: int,
    share: cluster.Share,
    progress: Progress,
    report: Report,
    log: RunLog,
) -> None:
    """Blocks of photos through the stages, and into the run."""
    import ray

    if not blocks:
        return
    guards = [(guarded(kind), {**arguments, "out": run.uri, "threads": 1}) for kind, arguments in stages]
    stream = ray.data.from_arrow(blocks).map_batches(
        StageActor,
        fn_constructor_kwargs={"stages": [*guards, (PhotoWriter, {"out": run.uri})], "run": log.id},
        batch_size=size,
        batch_format="pyarrow",
        **share.options(len(blocks)),
    )
    for row in stream.iter_rows():  # one a block
        progress.done += row["photos"]
        progress.instances += row["instances"]
        progress.errors += len(row["errors"])
        progress.reasons.update(row["errors"])
        log.row(row, progress.total - progress.done)
        report(progress)
        stop_if_systematic(progress)


def blocks_of(index: pa.Table, size: int, done: pa.Array) -> list[pa.Table]:
    """The photos that are not done, in blocks. Cut first, then left out: the last digits of what a network computes
    depend on what it is given at once, and so a resumed run has the very blocks of one that was never disturbed."""
    todo = (block.filter(pc.invert(pc.is_in(block["photo_id"], value_set=done))) for block in
            (index.slice(i, size) for i in range(0, len(index), size)))  # fmt: skip
    return [block.combine_chunks() for block in todo if len(block)]


def stop_if_systematic(progress: Progress) -> None:
    """Raises UserError when more than half of the first 200 photos or more failed."""
    if progress.done >= SYSTEMATIC and 2 * progress.errors > progress.done:
        reasons = "; ".join(f"{n} x {reason}" for reason, n in progress.reasons.most_common(3))
        raise UserError(
            f"Stopped: {progress.errors} of the first {progress.done} photos failed, which looks systematic "
            f"({reasons}). Nothing is lost: put the cause right and give the same command again."
        )


def _encounters(run: Run, config: ProcessConfig, report: Report, log: RunLog) -> None:
    """Groups and encodes shard by shard; a shard's encounters are one file, so finished shards are skipped."""
    import ray

    shards, finished = shards_of(run)
    todo = [{"shard": s, "files": files} for s, files in sorted(shards.items()) if s not in finished]
    progress = Progress("encounters", len(shards), len(shards) - len(todo), before=len(shards) - len(todo))
    report(progress)
    if not todo:
        return
    share = cluster.share(cluster.resources()[0], gpus=0)  # no network in it
    arguments = {"out": run.uri, "config": config.encounters, "threads": 1}
    stream = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
        StageActor,
        fn_constructor_kwargs={"stages": [(ShardEncoder, arguments)], "run": log.id},
        batch_size=1,
        batch_format="pyarrow",
        **share.options(len(todo)),
    )
    for row in stream.iter_rows():
        log.row(row)
        progress.done += 1
        report(progress)


class ShardEncoder:
    """Writes the encounters of one shard a call."""

    COLUMNS = ("photo_id", "path", "sequence_id", "taken_at", "shard", "status", "duplicate_of")
    NESTED = ("instance_id", "box", "descriptor", "embeddings")

    def __init__(self, out: str, config: EncounterConfig, threads: int | None = None) -> None:
        self.run = Run(out)
        self.builder = EncounterBuilder(config, threads=threads)

    def __call__(self, todo: pa.Table) -> pa.Table:
        (row,) = todo.to_pylist()
        columns = [*self.COLUMNS, *(f"instances.list.element.{name}" for name in self.NESTED)]
        parts = (self.run.read_file(file, columns) for file in row["files"])
        encounters = self.builder(pa.concat_tables(p.filter(pc.equal(p["shard"], row["shard"])) for p in parts))
        self.run.write("encounters", encounters, f"{row['shard']:05d}")
        return pa.table({"encounters": [len(encounters)]})


def count(run: Run) -> dict[str, int]:
    """What was found, for the table at the end and the manifest."""
    counts: Counter[str] = Counter()
    sequences: set[str] = set()
    for _, photos in run.parts("photos", ["sequence_id", "status", "instances.list.element.usable"]):
        sequences.update(photos["sequence_id"].to_pylist())
        for status, nested in zip(photos["status"].to_pylist(), records.instances(photos), strict=True):
            counts["photos"] += 1
            counts["errors"] += status == "error"
            counts["photos_without_animals"] += status == "ok" and not nested
            counts["instances"] += len(nested)
            counts["usable_patterns"] += sum(bool(i["usable"]) for i in nested)
    encounters = run.read("encounters", ["n_patches"])["n_patches"].to_pylist()
    return {
        "sequences": len(sequences),
        **counts,
        "encounters": len(encounters),
        "encounters_with_pattern": sum(n > 0 for n in encounters),
    }
