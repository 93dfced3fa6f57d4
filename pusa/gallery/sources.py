"""What a gallery keeps of the runs behind it: the photos and instances of its encounters, and the deployments' effort.

Exports and reports need who was where and when, long after a run has been deleted. Three tables beside those of
`pusa.gallery.store`; a gallery that was enrolled by an older version has none, and `read` gives what there is.

    instances   one row an instance of an enrolled encounter, with its photo's columns
    effort      one row a deployment of a run: where, from when to when, and on which days it took photos
    runs        the archive of each run, which paths are relative to
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pusa import records, storage
from pusa.gallery.journal import Key
from pusa.gallery.lance import compact, conditions, connect, quoted, retried, tables_of
from pusa.gallery.store import Gallery
from pusa.records import DEPLOYMENTS, INSTANCE, PHOTOS, Run
from pusa.sides.agree import agreed

_PHOTO = ("photo_id", "path", "sequence_id", "deployment_id", "taken_at", "camera", "latitude", "longitude", "width",
          "height")  # fmt: skip
_INSTANCE = ("instance_id", "side", "box", "score", "mask")

INSTANCES = pa.schema(
    [
        pa.field("run", pa.string()),
        pa.field("encounter_id", pa.string()),
        *(PHOTOS.field(name) for name in _PHOTO),
        *(INSTANCE.field(name) for name in _INSTANCE),
    ]
)
EFFORT = pa.schema(
    [
        pa.field("run", pa.string()),
        *DEPLOYMENTS,  # deployment_id is null for the photos of no deployment
        pa.field("days", pa.list_(pa.date32())),  # on which it took a photo, with or without an animal
    ]
)
RUNS = pa.schema({"run": pa.string(), "archive": pa.string()})
SCHEMAS = {"instances": INSTANCES, "effort": EFFORT, "runs": RUNS}


def keep(gallery: Gallery, run: Run, encounter_ids: Collection[str]) -> None:
    """Writes what the gallery needs of a run's encounters, in place of what it had of them."""
    found = of_run(run, encounter_ids)
    database = connect(gallery.uri)
    for name, rows in found.items():
        table = database.create_table(name, schema=SCHEMAS[name], exist_ok=True)
        keys = [(run.key, e) for e in encounter_ids]
        for condition in conditions(keys) if name == "instances" else [f"run = {quoted(run.key)}"]:
            retried(lambda table=table, condition=condition: table.delete(condition))  # type: ignore[misc]
        if len(rows):
            retried(lambda table=table, rows=rows: table.add(rows))  # type: ignore[misc]
            compact(table)


def of_run(run: Run, encounter_ids: Collection[str]) -> dict[str, pa.Table]:
    """The rows of the three tables for some encounters of a run, read in one pass over its photos."""
    wanted = set(encounter_ids)
    encounters = run.read("encounters", ["encounter_id", "instance_ids"]).to_pydict()
    owner = {i: e for e, ids in zip(*encounters.values(), strict=True) if e in wanted for i in ids}
    rows: dict[str, list[dict[str, Any]]] = {}  # by encounter
    days: dict[str | None, set[Any]] = {}
    columns = [*_PHOTO, *(f"instances.list.element.{name}" for name in (*_INSTANCE, "side_probability"))]
    for batch in run.batches("photos", columns, rows=1024):
        photos = batch.drop_columns(["instances"]).to_pylist()
        for photo, nested in zip(photos, records.instances(batch), strict=True):
            taken = days.setdefault(photo["deployment_id"], set())
            if photo["taken_at"]:
                taken.add(photo["taken_at"].date())
            for i in nested:
                if (owned := owner.get(i["instance_id"])) is not None:
                    rows.setdefault(owned, []).append({"run": run.key, "encounter_id": owned} | photo | i)
    for members in rows.values():
        for row, side in zip(members, agreed([(m["side"], m.get("side_probability")) for m in members]), strict=True):
            row["side"] = side
    known = {d["deployment_id"]: d for d in run.read("deployments").to_pylist()}
    effort = [
        {"run": run.key, **known.get(name, {}), "deployment_id": name, "days": sorted(days.get(name, ()))}
        for name in {**dict.fromkeys(known), **dict.fromkeys(days)}
    ]
    archive = run.manifest().get("archive", "")
    filesystem, where = storage.locate(archive)
    if "://" in archive or not storage.exists(filesystem, where):  # relative to where `pusa process` was called
        where = archive
    return {
        "instances": pa.Table.from_pylist(list(chain.from_iterable(rows.values())), schema=INSTANCES),
        "effort": pa.Table.from_pylist(effort, schema=EFFORT),
        "runs": pa.table({"run": [run.key], "archive": [where]}, schema=RUNS),
    }


def copy(old: Gallery, new: Gallery) -> None:
    """Gives a gallery what another one keeps."""
    there = set(tables_of(connect(old.uri), old.uri))
    for name, schema in SCHEMAS.items():
        if name in there:
            table = connect(new.uri).create_table(name, schema=schema, exist_ok=True)
            for batch in connect(old.uri).open_table(name).search().to_batches():
                table.add(pa.Table.from_batches([batch]))


def read(gallery: Gallery, keys: Collection[Key], masks: bool = True) -> dict[str, pa.Table]:
    """The rows of the three tables for enrolled encounters, with or without their `masks`. What the gallery does not
    keep is read from the runs that are still there; an encounter whose run has gone has no row then."""
    database = connect(gallery.uri)
    there = set(tables_of(database, gallery.uri))
    kept = {}
    for name, schema in SCHEMAS.items():
        chosen = pa.schema([field for field in schema if masks or field.name != "mask"])
        table = database.open_table(name).search().select(chosen.names).to_arrow() if name in there else None
        kept[name] = chosen.empty_table() if table is None else table.cast(chosen)
    pairs = kept["instances"].select(["run", "encounter_id"]).to_pydict().values()
    missing: dict[str, set[str]] = {}
    for of, encounter_id in set(keys) - set(zip(*pairs, strict=True)):
        missing.setdefault(of, set()).add(encounter_id)
    for name in sorted(missing):
        run = Run(name)
        if run.exists():
            found = of_run(run, missing[name])
            done = pc.equal(kept["effort"]["run"], name)
            added = found["instances"].select(kept["instances"].column_names)
            kept["instances"] = pa.concat_tables([kept["instances"], added])
            if not pc.any(done).as_py():
                kept["effort"] = pa.concat_tables([kept["effort"], found["effort"]])
                kept["runs"] = pa.concat_tables([kept["runs"], found["runs"]])
    return kept
