"""The metadata table of wildlife-datasets (https://github.com/WildlifeDatasets/wildlife-datasets, datasets.py): a CSV.

One row an animal in a photo: image_id (unique), identity ("unknown" where nobody knows), path, and optionally bbox [x,
y, width, height], date, orientation (also called position), segmentation (polygon, RLE, or the path of a mask),
species, video (photos of one are one sequence). Lists and RLEs are JSON in their cell. Columns of ours, which its
readers keep: encounter_id, sequence_id, deployment_id.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable
from typing import Any

from pusa.errors import UserError
from pusa.exchange import given, segmentations
from pusa.exchange.dataset import Dataset, Instance
from pusa.exchange.given import Given, Listed
from pusa.exchange.tables import csv_text, read_csv
from pusa.listing import normal_path
from pusa.records import SIDES

REQUIRED = ("image_id", "identity", "path")
UNKNOWN = "unknown"  # the identity of an animal that nobody knows; never a class
# In the order in which wildlife-datasets writes them
COLUMNS = (*REQUIRED, "bbox", "date", "orientation", "segmentation", "species", "encounter_id", "sequence_id",
           "deployment_id")  # fmt: skip


def is_wildlife_datasets(columns: list[str]) -> bool:
    return {"identity", "path"} <= set(columns)


def read(path: str) -> tuple[dict[str, list[Given]], dict[str, Listed]]:
    """Instances by photo, and what the table says of each photo. Rows without a box or a mask are whole photos.

    Raises UserError naming the line for a row that does not fit, the same image_id twice, or one individual twice in a
    photo.
    """
    instances: dict[str, list[Given]] = {}
    photos: dict[str, Listed] = {}
    ids: dict[str, int] = {}
    for line, row in read_csv(path, REQUIRED):
        where = f"{path}, line {line}"
        name = normal_path(row["path"])
        if not name or not row["image_id"]:
            raise UserError(f"{where}: expected an image_id and a path, found {row['image_id']!r} and {row['path']!r}.")
        if (first := ids.setdefault(row["image_id"], line)) != line:
            raise UserError(
                f"{where}: expected image_ids that are unique, found {row['image_id']} again (line {first}). It is the "
                "id of a row, one an animal, not of a file."
            )
        listed = Listed(_date(row.get("date"), where), row.get("deployment_id") or None,
                        row.get("sequence_id") or row.get("video") or None)  # fmt: skip
        if photos.setdefault(name, listed) != listed:
            raise UserError(
                f"{where}: expected what the rows of {name} before say of it ({photos[name]}), found {listed}."
            )
        instances.setdefault(name, []).append(_given(row, path, where))
    given.check_names(instances, path)
    return instances, photos


def write(dataset: Dataset, species: str | None = None) -> str:
    """The table as CSV, sorted by image_id. An individual that nobody decided about is "unknown"."""
    rows = sorted((_row(i, species) for i in dataset.instances), key=lambda row: row["image_id"])
    return csv_text(COLUMNS, rows)


def _row(instance: Instance, species: str | None) -> dict[str, Any]:
    x0, y0, x1, y1 = instance.box
    photo = instance.photo
    return {
        "image_id": instance.instance_id,
        "identity": instance.individual or UNKNOWN,
        "path": photo.path,
        "bbox": json.dumps([x0, y0, x1 - x0, y1 - y0]),
        "date": photo.taken_at and photo.taken_at.isoformat(" ", "milliseconds").removesuffix(".000"),
        "orientation": None if instance.side == "unknown" else instance.side,
        "segmentation": instance.mask and json.dumps(dict(instance.mask)),
        "species": species,
        "encounter_id": instance.encounter_id,
        "sequence_id": photo.sequence_id,
        "deployment_id": photo.deployment_id,
    }


def _given(row: dict[str, str], path: str, where: str) -> Given:
    segmentation, later, mask = row.get("segmentation"), None, None
    box: tuple[float, float, float, float] = (0, 0, 1, 1)
    fractions = True
    if bbox := row.get("bbox"):
        box, fractions = given.corners(_json(bbox, "bbox", where), where), False
    if segmentation:
        if segmentation[0] in "[{":
            value = _json(segmentation, "segmentation", where)
            if isinstance(value, list):
                later = _polygon(value if isinstance(value[0], list) else [value], where)
            else:
                mask = segmentations.checked(value, {}, where)
        else:
            later = _file(os.path.join(os.path.dirname(path), segmentation))
    side = (row.get("orientation") or row.get("position") or "unknown").lower()
    return Given(
        box=box,
        fractions=fractions,
        mask=mask,
        side=side if side in SIDES else "unknown",  # "frontleft" and the like: no flank is seen squarely
        identity=given.identity(row["identity"]),
        id=row["image_id"],
        later=later,
    )


def _polygon(polygons: list[list[float]], where: str) -> Callable[[int, int], dict[str, Any]]:
    return lambda height, width: segmentations.checked(polygons, {"height": height, "width": width}, where)


def _file(mask: str) -> Callable[[int, int], dict[str, Any]]:
    from pusa.exchange.cut_outs import from_mask

    return lambda height, width: from_mask(mask)


def _json(text: str, column: str, where: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError as e:
        raise UserError(f"{where}, column {column}: expected JSON such as [10, 20, 30, 40], found {text:.60}.") from e
    if isinstance(value, list) and not value:
        raise UserError(f"{where}, column {column}: the list is empty. Leave the cell empty where there is none.")
    return value


def _date(text: str | None, where: str) -> dt.datetime | None:
    if not text:
        return None
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError as e:
        raise UserError(f"{where}, column date: expected a date like 2021-05-01 10:30:00, found {text!r}.") from e
    return time.replace(tzinfo=None)  # local time: the offset says how far it is from UTC
