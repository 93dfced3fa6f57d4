"""A run that begins with what another one found: photos that both have go through the changed stages only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pusa import records
from pusa.records import Run
from pusa.stages import FILLS

FILE = "file"  # a column that says in which file of the other run a photo is


class Reuse:
    """Takes the place of the detector: photos with the instances of another run, without what the stages `again` will
    fill anew."""

    def __init__(self, source: str, again: list[str], threads: int | None = None) -> None:
        self.source = Run(source)
        self.absent = dict.fromkeys(field.name for field in records.INSTANCE)  # in runs of older versions
        self.cleared = dict.fromkeys(name for stage in again for name in FILLS[stage])

    def __call__(self, photos: pa.Table) -> pa.Table:
        files = dict.fromkeys(photos[FILE].to_pylist())
        rows = pa.concat_tables(self.source.read_file(file) for file in files)
        place = {name: k for k, name in enumerate(rows["photo_id"].to_pylist())}
        rows = rows.take([place[name] for name in photos["photo_id"].to_pylist()])
        found = {name: rows[name].to_pylist() for name in ("digest", "status", "error")}
        nested = [[self.absent | i | self.cleared for i in row] for row in records.instances(rows)]
        return records.with_instances(records.with_columns(photos.drop_columns([FILE]), **found), nested)


def reusable(source: Run, todo: pa.Table) -> Iterator[pa.Table]:
    """Those photos of `todo`, rows of an index, that the other run has, file by file, with the column FILE. Those that
    it could not process are not among them: the cause may be gone."""
    wanted = todo["photo_id"].combine_chunks()
    where = {name: k for k, name in enumerate(wanted.to_pylist())}
    for file, rows in source.parts("photos", ["photo_id", "status"]):
        there = rows.filter(pc.and_(pc.equal(rows["status"], "ok"), pc.is_in(rows["photo_id"], value_set=wanted)))
        if len(there):
            block = todo.take([where[name] for name in there["photo_id"].to_pylist()])
            yield block.append_column(FILE, pa.array([file] * len(block))).combine_chunks()


def stages(source: str, again: list[str], all_stages: list[tuple[type, dict[str, Any]]]) -> list[Any]:
    """The stages that reused photos go through: `again` of all stages, behind what reads the other run."""
    named = dict(zip(("detector", *FILLS), all_stages, strict=True))
    return [(Reuse, {"source": source, "again": again}), *(named[stage] for stage in again)]
