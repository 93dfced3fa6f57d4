"""The tables of a gallery's store, as Arrow schemas, and their rows as the objects of `pusa.gallery`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pusa.errors import UserError
from pusa.gallery.geometry import LENGTH, NO_PATCHES, Features, Points
from pusa.gallery.journal import Decision

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

CROPS = pa.schema(
    {
        "run": pa.string(),
        "encounter_id": pa.string(),
        "instance_id": pa.string(),
        "side": pa.float32(),  # see `geometry.Features`
        "corner": pa.list_(pa.float32(), 2),
        "picture": pa.binary(),
        "mark_points": pa.list_(pa.float32()),  # x, y, x, y, ...
        "marks": pa.binary(),  # 128 bytes a point
        "patch_points": pa.list_(pa.float32()),
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
            "thumbnail": pa.binary(),  # JPEG of one crop
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


def crop_rows(run: str, encounter_id: str, features: Mapping[str, Features]) -> list[dict[str, Any]]:
    """The points of an encounter's crops, by instance_id, as rows of CROPS."""
    return [
        {"run": run, "encounter_id": encounter_id, "instance_id": i, "side": f.side, "corner": f.corner,
         "picture": f.picture, "mark_points": f.marks.at.ravel(), "marks": f.marks.descriptors.tobytes()}
        | patch_columns(f.patches)
        for i, f in features.items()
    ]  # fmt: skip


def patch_columns(patches: Points) -> dict[str, Any]:
    """The columns of CROPS that belong to a codebook."""
    return {"patch_points": patches.at.ravel(), "patches": patches.descriptors.tobytes()}


def features_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Features]:
    """The inverse of `crop_rows`, in the order of instance_id."""
    return {
        row["instance_id"]: Features(
            _points(row["mark_points"], np.frombuffer(row["marks"], np.uint8).reshape(-1, LENGTH)),
            row["side"],
            tuple(row["corner"]),
            row["picture"],
            _points(row["patch_points"], np.frombuffer(row["patches"], np.float16)) if row["patches"] else NO_PATCHES,
        )
        for row in sorted(rows, key=lambda row: row["instance_id"])
    }


def _points(at: Sequence[float], descriptors: np.ndarray) -> Points:
    where = np.array(at, np.float32).reshape(-1, 2)
    return Points(where, descriptors.reshape(len(where), -1) if len(where) else descriptors)


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
