"""The tables of a gallery's store, as Arrow schemas, and their rows as the objects of `pusa.gallery`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pusa.gallery.geometry import LENGTH, Features
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
        "points": pa.list_(pa.float32()),  # x, y, x, y, ...
        "descriptors": pa.binary(),  # 128 bytes a point
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
    """The key points of an encounter's crops, by instance_id, as rows of CROPS."""
    return [
        {"run": run, "encounter_id": encounter_id, "instance_id": i, "side": f.side, "points": f.points.ravel(),
         "descriptors": f.descriptors.tobytes()}
        for i, f in features.items()
    ]  # fmt: skip


def features_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Features]:
    """The inverse of `crop_rows`, in the order of instance_id."""
    return {
        row["instance_id"]: Features(
            np.array(row["points"], np.float32).reshape(-1, 2),
            np.frombuffer(row["descriptors"], np.uint8).reshape(-1, LENGTH),
            row["side"],
        )
        for row in sorted(rows, key=lambda row: row["instance_id"])
    }
