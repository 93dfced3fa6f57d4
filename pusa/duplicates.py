"""Photos whose content is in a run twice: a copy in another sequence would be a perfect, and false, resighting."""

from __future__ import annotations

import pyarrow as pa

from pusa import records
from pusa.records import Run


def mark_duplicates(run: Run) -> int:
    """Sets `duplicate_of` on photos whose content another photo (earlier by path) has; returns how many there are.

    Both stay rows. Only files in which a mark changes are written again.
    """
    columns = ["photo_id", "path", "digest", "duplicate_of"]
    files = dict(run.parts("photos", columns))
    first: dict[str, str] = {}
    copies: dict[str, str] = {}
    for row in pa.concat_tables(files.values()).sort_by("path").to_pylist():
        if row["digest"] is not None:
            original = first.setdefault(row["digest"], row["photo_id"])
            if original != row["photo_id"]:
                copies[row["photo_id"]] = original
    for file, marked in files.items():
        wanted = [copies.get(i) for i in marked["photo_id"].to_pylist()]
        if wanted != marked["duplicate_of"].to_pylist():
            run.rewrite("photos", file, records.with_columns(run.read_file(file), duplicate_of=wanted))
    return len(copies)
