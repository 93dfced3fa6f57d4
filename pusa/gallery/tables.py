"""The tables of a gallery's store, as Arrow schemas, and their rows as the objects of `pusa.gallery`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pusa.errors import UserError
from pusa.gallery import codes
from pusa.gallery.codes import BYTES
from pusa.gallery.geometry import LENGTH, NO_PATCHES, Features, Points
from pusa.gallery.journal import Decision

CODE = pa.binary(BYTES)

ABOUT = pa.schema({"key": pa.string(), "value": pa.string()})

KEY = pa.struct({"run": pa.string(), "encounter_id": pa.string()})

DECISIONS = pa.schema(
    {
        "decision_id": pa.string(),
        "number": pa.int64(),
        "made_at": pa.timestamp("us", tz="UTC"),
        "by": pa.string(),
        "kind": pa.string(),
        "encounters": pa.list_(KEY),
        "individual": pa.string(),
        "other": pa.string(),
        "instance_id": pa.string(),
        "undoes": pa.string(),
        "reason": pa.string(),
        "shown": pa.list_(pa.string()),
        "weights": pa.string(),
    }
)

CROP = pa.struct(
    {
        "instance_id": pa.string(),
        "side": pa.float32(),  # see `geometry.Features`
        "corner": pa.list_(pa.float32(), 2),
        "picture": pa.binary(),
        "mark_points": pa.binary(),  # float32 x, y, x, y, ...: lists of numbers take ten times as long to read
        "marks": pa.binary(),  # int8, 128 numbers a point
        "patch_points": pa.binary(),
        "patches": pa.binary(),  # float16, as many a point as the codebook has dimensions
    }
)


def encounters(length: int) -> pa.Schema:
    """Columns of the encounters table for Fisher vectors of `length` numbers; the key is (run, encounter_id)."""
    return pa.schema(
        {
            "run": pa.string(),  # where it comes from: the URI of a run, or any name of a collection
            "encounter_id": pa.string(),
            "sequence_id": pa.string(),
            "place": pa.string(),
            "taken_from": pa.timestamp("ms"),  # local times of the first and the last photo
            "taken_to": pa.timestamp("ms"),
            "side": pa.string(),
            "n_patches": pa.int32(),
            "fisher": pa.list_(pa.float16(), length),  # null where the encounter has no patch: kept, never found
            "code": CODE,  # of `fisher`, see `codes`
            "thumbnail": pa.binary(),  # JPEG of one crop
            "crops": pa.list_(CROP),  # of some of its crops what is compared; most of the store's bytes
        }
    )


def decision_rows(decisions: Iterable[Decision]) -> pa.Table:
    """Decisions as rows of DECISIONS."""
    rows = [
        {name: getattr(d, name) for name in DECISIONS.names}
        | {"encounters": [{"run": run, "encounter_id": e} for run, e in d.encounters], "shown": list(d.shown)}
        for d in decisions
    ]
    return pa.Table.from_pylist(rows, schema=DECISIONS)


def decisions_of(rows: pa.Table) -> list[Decision]:
    """The inverse of `decision_rows`."""
    return [
        Decision(**row | {
            "encounters": tuple((key["run"], key["encounter_id"]) for key in row["encounters"]),
            "shown": tuple(row["shown"]),
        })
        for row in rows.to_pylist()
    ]  # fmt: skip


def crop_list(features: Mapping[str, Features]) -> list[dict[str, Any]]:
    """The points of an encounter's crops, by instance_id, as a list of CROP."""
    return [
        {"instance_id": i, "side": f.side, "corner": f.corner, "picture": f.picture,
         "mark_points": f.marks.at.tobytes(), "marks": f.marks.descriptors.tobytes()} | patch_columns(f.patches)
        for i, f in features.items()
    ]  # fmt: skip


def patch_columns(patches: Points) -> dict[str, Any]:
    """The fields of CROP that belong to a codebook."""
    return {"patch_points": patches.at.tobytes(), "patches": patches.descriptors.tobytes()}


def features_of(crops: Iterable[Mapping[str, Any]] | None, out: Collection[str] = ()) -> list[Features]:
    """The inverse of `crop_list`, in the order of instance_id, less those in `out`; of null nothing."""
    return [
        Features(
            _points(crop["mark_points"], np.frombuffer(crop["marks"], np.int8).reshape(-1, LENGTH)),
            crop["side"],
            tuple(crop["corner"]),
            crop["picture"],
            _points(crop["patch_points"], np.frombuffer(crop["patches"], np.float16))
            if crop["patches"]
            else NO_PATCHES,
        )
        for crop in sorted(crops or (), key=lambda crop: crop["instance_id"])
        if crop["instance_id"] not in out
    ]


def _points(at: bytes, descriptors: np.ndarray) -> Points:
    where = np.frombuffer(at, np.float32).reshape(-1, 2)
    return Points(where, descriptors.reshape(len(where), -1) if len(where) else descriptors)


def code_column(fisher: pa.Array) -> pa.Array:
    """Codes of Fisher vectors, a column of fixed-size lists; null where they are."""
    known = fisher.drop_null()
    if not len(known):
        return pa.nulls(len(fisher), CODE)
    each = iter(codes.codes(fisher_array(known, len(known[0]))))
    return pa.array([next(each).tobytes() if valid else None for valid in fisher.is_valid().to_pylist()], CODE)


def fisher_array(column: pa.Array, length: int) -> np.ndarray:
    """Fisher vectors (n, length) float16 of a column of fixed-size lists, none of which is null."""
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, length)


def code_array(column: pa.Array) -> np.ndarray:
    """The inverse of `code_column`, of codes none of which is null: (n, BYTES) uint8."""
    return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(-1, BYTES)


def fixed(fisher: pa.Array, length: int) -> pa.Array:
    """Fisher vectors as fixed-size lists; null stays null. Raises UserError for another length or NaN."""
    lengths = pc.unique(pc.list_value_length(fisher)).drop_null().to_pylist()
    if lengths not in ([], [length]):
        raise UserError(
            f"Expected Fisher vectors of {length} numbers, got {lengths}: they were made with another codebook."
        )
    if not np.isfinite(fisher.flatten().to_numpy(zero_copy_only=False)).all():
        raise UserError("A Fisher vector holds NaN or infinity: process its photos again, and report it if it stays.")
    return fisher.cast(pa.list_(pa.float16(), length))
