"""The end of the stream: a block of photos, with all that the stages found in them, becomes a file of the run.

A module of its own, since a process that only writes needs none of what the networks load.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.pool import SECONDS
from pusa import records
from pusa.records import Run


def name_of(photos: pa.Table) -> str:
    """The name of a block: 16 hex digits that follow from its photo ids."""
    return hashlib.blake2b("".join(photos["photo_id"].to_pylist()).encode(), digest_size=8).hexdigest()


class PhotoWriter:
    """Writes a block of photos into the run and returns one row: the file's name, counts, and what stages took."""

    COUNTS = pa.schema(
        {"block": pa.string(), "photos": pa.int64(), "instances": pa.int64(), "errors": pa.list_(pa.string())}
    )

    def __init__(self, out: str) -> None:
        self.run = Run(out)

    def __call__(self, photos: pa.Table) -> pa.Table:
        seconds = {c: pc.sum(photos[c]).as_py() for c in photos.column_names if c.startswith(SECONDS)}
        photos = photos.select(records.PHOTOS.names).cast(records.PHOTOS)
        name = name_of(photos)
        self.run.write("photos", photos, name)
        errors = photos.filter(pc.equal(photos["status"], "error"))["error"].to_pylist()
        instances = pc.sum(pc.list_value_length(photos["instances"])).as_py() or 0
        row = {"block": name, "photos": len(photos), "instances": instances, "errors": errors}
        counts = pa.Table.from_pylist([row], self.COUNTS)
        for column, value in seconds.items():
            counts = counts.append_column(column, pa.array([value], pa.float64()))
        return counts
