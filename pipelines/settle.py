"""What a run's tables owe to each other: photos follow from the index, encounters from the photos.

Nothing is noted about what is still to be done; it is seen in the tables, so it is seen after any fault.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import pyarrow as pa

from pusa import records
from pusa.errors import UserError
from pusa.records import Run


def settle(run: Run) -> None:
    """Makes the photos what the index says now: each in the run once, in its sequence and shard, and none besides.

    A block that Ray cut anew in a retry may have left a photo twice; photos that came to an archive may have changed
    the sequences of others. Raises UserError where photos are missing.
    """
    rows = run.read("index", ["photo_id", "sequence_id", "shard"]).to_pylist()
    missing = {row["photo_id"]: row for row in rows}
    for file, part in run.parts("photos", ["photo_id", "sequence_id", "shard"]):
        now = part.to_pylist()
        wanted = [missing.pop(row["photo_id"], None) for row in now]
        if wanted != now:
            kept = run.read_file(file).filter(pa.array([row is not None for row in wanted]))
            columns = {c: [row[c] for row in wanted if row] for c in ("sequence_id", "shard")}
            run.rewrite("photos", file, records.with_columns(kept, **columns))
    if missing:
        raise UserError(
            f"{len(missing)} photos are missing in {run.uri} although no error was told. Give the same command again."
        )


def shards_of(run: Run) -> tuple[dict[int, list[str]], set[int]]:
    """The files of photos of each shard, and the shards whose encounters are there: of the very instances, in the very
    sequences, that the photos have now."""
    files: dict[int, list[str]] = {}
    expected: Counter[int] = Counter()
    columns = ["shard", "sequence_id", "status", "duplicate_of", "instances.list.element.instance_id"]
    for file, photos in run.parts("photos", columns):
        for row, found in zip(photos.drop_columns(["instances"]).to_pylist(), records.instances(photos), strict=True):
            if file not in files.setdefault(row["shard"], []):
                files[row["shard"]].append(file)
            if row["status"] == "ok" and row["duplicate_of"] is None:
                expected[row["shard"]] += signature(row["sequence_id"], [i["instance_id"] for i in found])
    finished = set()
    for file, part in run.parts("encounters", ["sequence_id", "instance_ids"]):
        rows = part.to_pylist()
        shard = int(file.rsplit("/", 1)[1].removesuffix(".parquet"))
        if shard not in files:  # its sequences went into others
            run.fs.delete_file(file)
        elif sum(signature(row["sequence_id"], row["instance_ids"]) for row in rows) == expected[shard]:
            finished.add(shard)
    return files, finished


def signature(sequence_id: str, instance_ids: list[str]) -> int:
    """A number that tells sets of instances apart: the sum of that of each, in whatever order they come."""
    names = (f"{sequence_id}\0{i}".encode() for i in instance_ids)
    return sum(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") for name in names)
