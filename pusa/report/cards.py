"""The cards of a report: what a page shows of each encounter, with its pictures as data URIs."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pusa import records
from pusa.photos import decode_jpeg, decode_mask_png
from pusa.records import Run
from pusa.report import pictures
from pusa.report.survey import reason_of
from pusa.segmentation.masks import crop_mask

PICTURE_SIZE = (400, 200)  # px, limits of width and height
CANDIDATE_SIZE = (150, 110)  # px
PHOTO_COLUMNS = ("photo_id", "path", "sequence_id", "taken_at", "deployment_id")
INSTANCE_COLUMNS = (
    "instance_id",
    "side",
    "mask",
    "crop_box",
    "crop",
    "pattern",
    "usable",
    "unusable_reason",
    "patch_boxes",
)

Thumbnail = Callable[[str], bytes | None]  # a JPEG of an individual, None where there is none


@dataclass(frozen=True)
class Picture:
    """One instance as the page shows it. `crop` and `pattern` are data URIs, `outline` the `d` of an SVG path."""

    path: str
    name: str  # the path without what the sequence's name says already
    photo_id: str
    taken_at: dt.datetime | None
    deployment_id: str | None
    side: str
    patches: int
    reason: str | None  # why its pattern is not usable; None where it is
    size: tuple[int, int]  # width, height, px
    crop: str
    outline: str
    pattern: str | None


@dataclass(frozen=True)
class Card:
    """One encounter as the page shows it. A candidate is a row of `records.CANDIDATES`, its `picture`, and the name of
    the picture of its `match` in RUN/matches, or None."""

    id: str
    when: str | None
    place: str
    photos: int
    patches: int
    pictures: list[Picture]
    candidates: list[dict[str, Any]]

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Why its pictures are not usable, the most frequent reason first."""
        return Counter(p.reason for p in self.pictures if p.reason).most_common()


class Dealer:
    """Makes the cards of some encounters, reading only the files that hold their instances (`file_of`)."""

    def __init__(self, run: Run, file_of: dict[str, str], candidates: pa.Table, thumbnail: Thumbnail) -> None:
        self.run = run
        self.file_of = file_of
        self.candidates = candidates
        self.matches = run.pictures("matches")
        self.places = {d["deployment_id"]: d["place"] for d in run.read("deployments").to_pylist()}
        self.face = lru_cache(maxsize=1024)(lambda individual: face(thumbnail(individual)))

    def __call__(self, encounters: pa.Table) -> list[Card]:
        """The cards of a few rows of `records.ENCOUNTERS` (encounter_id, instance_ids, n_patches), in their order."""
        rows = encounters.to_pylist()
        shown = self.pictures([i for row in rows for i in row["instance_ids"]])
        ranked = self.ranked(encounters["encounter_id"])
        return [self.card(row, [shown[i] for i in row["instance_ids"]], ranked[row["encounter_id"]]) for row in rows]

    def card(self, row: dict[str, Any], members: list[Picture], candidates: list[dict[str, Any]]) -> Card:
        deployments = dict.fromkeys(p.deployment_id for p in members if p.deployment_id)
        return Card(
            id=row["encounter_id"],
            when=span(p.taken_at for p in members),
            place=", ".join(self.places.get(d) or d for d in deployments),
            photos=len({p.photo_id for p in members}),
            patches=row["n_patches"],
            pictures=members,
            candidates=candidates,
        )

    def ranked(self, ids: pa.ChunkedArray) -> dict[str, list[dict[str, Any]]]:
        """The candidates of each encounter, the nearest first."""
        ranked: dict[str, list[dict[str, Any]]] = {i: [] for i in ids.to_pylist()}
        rows = self.candidates.filter(pc.is_in(self.candidates["encounter_id"], value_set=ids.combine_chunks()))
        for row in rows.sort_by("rank").to_pylist():
            name = records.match_name(row["encounter_id"], row["individual"])
            more = {"picture": self.face(row["individual"]), "match": name if name in self.matches else None}
            ranked[row["encounter_id"]].append(row | more)
        return ranked

    def pictures(self, ids: Sequence[str]) -> dict[str, Picture]:
        """The pictures of the instances `ids`, made small as they are read, a file at a time."""
        columns = [*PHOTO_COLUMNS, *(f"instances.list.element.{name}" for name in INSTANCE_COLUMNS)]
        wanted = set(ids)
        shown: dict[str, Picture] = {}
        for file in sorted({self.file_of[i] for i in ids}):
            photos = self.run.read_file(file, columns)
            rows = photos.drop_columns(["instances"]).to_pylist()
            for row, found in zip(rows, records.instances(photos), strict=True):
                shown |= {i["instance_id"]: picture(row, i) for i in found if i["instance_id"] in wanted}
        return shown


def picture(photo: dict[str, Any], instance: dict[str, Any]) -> Picture:
    """The picture of an instance (`INSTANCE_COLUMNS`) of a photo (`PHOTO_COLUMNS`)."""
    crop = pictures.thumbnail(decode_jpeg(instance["crop"]), PICTURE_SIZE)
    size = (crop.shape[1], crop.shape[0])
    mask = crop_mask(instance["mask"], instance["crop_box"], size)
    pattern = None
    if instance["pattern"] is not None:
        x0, y0, x1, y1 = instance["crop_box"]
        corner, scale = (x0, y0) * 2, np.array(size * 2) / ((x1 - x0, y1 - y0) * 2)
        patches = (np.array(instance["patch_boxes"], float).reshape(-1, 4) - corner) * scale
        panel = pictures.pattern_panel(decode_mask_png(instance["pattern"]), mask, patches)
        pattern = pictures.data_uri(panel, "png")
    return Picture(
        path=photo["path"],
        name=photo["path"].removeprefix(f"{photo['sequence_id']}/"),
        photo_id=photo["photo_id"],
        taken_at=photo["taken_at"],
        deployment_id=photo["deployment_id"],
        side=instance["side"],
        patches=len(instance["patch_boxes"] or ()),
        reason=None if instance["usable"] else reason_of(instance),
        size=size,
        crop=pictures.data_uri(crop, "jpeg"),
        outline=pictures.svg_path(pictures.outline(mask)),
        pattern=pattern,
    )


def face(jpeg: bytes | None) -> str | None:
    """The picture of a candidate as a small data URI; None where there is none."""
    if jpeg is None:
        return None
    return pictures.data_uri(pictures.thumbnail(decode_jpeg(jpeg), CANDIDATE_SIZE), "jpeg")


def span(times: Iterable[dt.datetime | None]) -> str | None:
    """From the first to the last time, to the minute; None where no time is known."""
    known = sorted(t for t in times if t is not None)
    if not known:
        return None
    first, last = (f"{t:%Y-%m-%d, %H:%M}" for t in (known[0], known[-1]))
    if first == last:
        return first
    return f"{first} to {last.split(', ')[1] if first[:10] == last[:10] else last}"
