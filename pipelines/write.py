"""The end of the stream: a block of photos, with all that the stages found in them, becomes a file of the run.

A module of its own, since the process that writes needs none of what the networks load.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from pusa import records
from pusa.records import Run


def name_of(photos: pa.Table) -> str:
    """The name of a block: 16 hex digits that follow from its photo ids."""
    return hashlib.blake2b("".join(photos["photo_id"].to_pylist()).encode(), digest_size=8).hexdigest()


class PhotoWriter:
    """Writes a block of photos into the run and returns one row of counts."""

    COUNTS = pa.schema({"photos": pa.int64(), "instances": pa.int64(), "errors": pa.list_(pa.string())})

    def __init__(self, out: str) -> None:
        self.run = Run(out)

    def __call__(self, photos: pa.Table) -> pa.Table:
        photos = photos.cast(records.PHOTOS)
        self.run.write("photos", photos, name_of(photos))
        errors = photos.filter(pc.equal(photos["status"], "error"))["error"].to_pylist()
        instances = pc.sum(pc.list_value_length(photos["instances"])).as_py() or 0
        row = {"photos": len(photos), "instances": instances, "errors": errors}
        return pa.Table.from_pylist([row], self.COUNTS)
