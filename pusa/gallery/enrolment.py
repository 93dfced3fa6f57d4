"""Enrolment: the encounters of a finished run, with place, times and points of their crops, become a gallery's."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import cv2
import pyarrow as pa

from pusa import photos, records, weights
from pusa.errors import UserError
from pusa.fisher.codebook import Codebook
from pusa.gallery import journal, sources, verify
from pusa.gallery.crops import Reader
from pusa.gallery.geometry import Features
from pusa.gallery.store import Gallery
from pusa.gallery.verify import VerifyConfig
from pusa.keypoints import MARKS
from pusa.records import Run

T = TypeVar("T")
THUMBNAIL = 256  # px, longer side of the picture that stands for an individual
BATCH = 128  # encounters at once: 130 MB, twice
COLUMNS = {  # of a gallery's encounters, that the photos tell
    "place": pa.string(),
    "taken_from": pa.timestamp("ms"),
    "taken_to": pa.timestamp("ms"),
    "side": pa.string(),
    "thumbnail": pa.binary(),
}


@dataclass
class Encounter:
    """An encounter, as far as its photos have been read: `missing` are the instances that have not."""

    missing: set[str]
    chosen: set[str]  # instances whose points are kept
    place: str | None = None
    taken_from: dt.datetime | None = None
    taken_to: dt.datetime | None = None
    sides: Counter[str] = field(default_factory=Counter)
    patches: int = -1  # of the instance that is its picture
    picture: bytes = b""
    crops: dict[str, Features] = field(default_factory=dict)

    def add(self, instance: dict[str, Any], time: dt.datetime | None, place: str | None) -> None:
        self.missing.discard(instance["instance_id"])
        self.place = self.place or place
        if time:
            self.taken_from = min(self.taken_from or time, time)
            self.taken_to = max(self.taken_to or time, time)
        self.sides[instance["side"]] += 1
        if (patches := len(instance["patch_boxes"] or [])) > self.patches:
            self.patches, self.picture = patches, instance.get("picture") or instance["crop"]

    @property
    def side(self) -> str | None:
        """What most pictures show; unknown where it is of none of them."""
        return min(self.sides, key=lambda s: (s == "unknown", -self.sides[s], s)) if self.sides else None

    @property
    def thumbnail(self) -> bytes | None:
        return _thumbnail(self.picture) if self.picture else None


def codebook_of(run: Run) -> Codebook:
    """The codebook that a finished run was encoded with. Raises UserError where there is none, or another by now."""
    manifest = run.finished_manifest()
    if "codebook" not in manifest["weights"]:
        raise UserError(
            f"{run.uri} was processed without a codebook: its encounters have no vectors. Process it with one."
        )
    codebook = Codebook.load(manifest["config"]["encounters"]["codebook"])
    if codebook.digest != manifest["weights"]["codebook"]:
        raise UserError(f"The codebook of {run.uri} has changed since the run. Process the archive into a new folder.")
    return codebook


def enroll(
    run: Run,
    gallery_uri: str,
    names: Mapping[str, str] | None = None,
    until: dt.date | None = None,
    marks: str | None = None,
) -> dict[str, int]:
    """Adds encounters of a finished run to a gallery, which is made where there is none: the named ones; without
    `names` all, which nobody has decided about.

    `until`: only encounters whose last photo was taken on that day or before; those without a time are left out.
    `marks`: weights that describe the key points of a gallery that is made; null: what described the run's. Raises
    UserError where the gallery belongs to another codebook, or was made with other `marks`.
    """
    codebook = codebook_of(run)
    gallery = Gallery.open(gallery_uri, codebook) if Gallery.exists(gallery_uri) else None
    if gallery and marks and weights.digest(weights.find(marks)) != gallery.about["marks"]:
        raise UserError(
            f"The key points in {gallery_uri} are described by {gallery.marks}, and cannot be compared with those of "
            f"{marks}. Enroll its animals anew into another gallery."
        )
    if names:  # before anything is made or written
        journal.naming({(run.key, e): name for e, name in names.items()}, gallery.decisions() if gallery else [])
    if gallery is None:
        used = run.manifest()["config"].get("keypoints", {}).get("marks")
        gallery = Gallery.create(gallery_uri, codebook, marks or used or MARKS)
    counts, enrolled = Counter(given=0, enrolled=0), []  # type: tuple[Counter[str], list[str]]
    for batch, described in _ahead(encounters_of(run, codebook, gallery.verifying(VerifyConfig()), names)):
        late = [
            until is not None and not (d.taken_to and d.taken_to.date() <= until)
            for d in map(described.__getitem__, batch["encounter_id"].to_pylist())
        ]
        rows = batch.filter(pa.array([not x for x in late], pa.bool_()))
        ids = rows["encounter_id"].to_pylist()
        rows = rows.append_column("run", pa.array([run.key] * len(ids), pa.string()))
        rows = rows.append_column("individual", pa.array([names and names[e] for e in ids], pa.string()))
        for name, kind in COLUMNS.items():
            rows = rows.append_column(name, pa.array([getattr(described[e], name) for e in ids], kind))
        counts.update(given=len(batch), after=sum(late), without_pattern=rows["fisher"].null_count)
        counts["enrolled"] += gallery.enroll(rows, {e: described[e].crops for e in ids})
        enrolled += ids
    if enrolled:
        sources.keep(gallery, run, enrolled)
    return {**counts, **gallery.counts()}


def encounters_of(
    run: Run, codebook: Codebook, config: VerifyConfig, names: Mapping[str, str] | None
) -> Iterator[tuple[pa.Table, dict[str, Encounter]]]:
    """The encounters of `names`, or all, batch by batch: their rows (encounter_id, sequence_id, n_patches, fisher), and
    what the photos tell, by encounter_id. Photos lie about in the order of the encounters, so few are in memory."""
    rows = run.read("encounters", ["encounter_id", "instance_ids"]).to_pydict()
    encounters = {
        e: Encounter(set(ids), set(verify.spread(ids, config.crops)))
        for e, ids in zip(*rows.values(), strict=True)
        if names is None or e in names
    }
    with ThreadPoolExecutor() as pool:
        reading = _read(run, codebook, config, encounters, pool)
        for batch in run.batches("encounters", ["encounter_id", "sequence_id", "n_patches", "fisher"], rows=BATCH):
            batch = batch.filter(pa.array([e in encounters for e in batch["encounter_id"].to_pylist()], pa.bool_()))
            ids = batch["encounter_id"].to_pylist()
            while any(encounters[e].missing for e in ids) and next(reading, None):
                pass
            if ids:
                yield batch, {e: encounters.pop(e) for e in ids}


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The items; each is made in the background while the one before it is used."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]


def _read(
    run: Run, codebook: Codebook, config: VerifyConfig, encounters: Mapping[str, Encounter], pool: ThreadPoolExecutor
) -> Iterator[bool]:
    """Fills in encounters, some photos a turn."""
    owner = {i: encounter for encounter in encounters.values() for i in encounter.missing}
    places = dict(zip(*run.read("deployments", ["deployment_id", "place"]).to_pydict().values(), strict=True))
    read = Reader(run.manifest(), config.geometry, codebook)
    columns = ["taken_at", "deployment_id", *(f"instances.list.element.{name}" for name in ("side", *read.fields))]
    for batch in _ahead(run.batches("photos", columns)):
        chosen = []
        about = zip(batch["taken_at"].to_pylist(), batch["deployment_id"].to_pylist(), strict=True)
        for (time, deployment), nested in zip(about, records.instances(batch), strict=True):
            for instance in nested:
                if (encounter := owner.pop(instance["instance_id"], None)) is None:
                    continue
                encounter.add(instance, time, places.get(deployment))
                if instance["instance_id"] in encounter.chosen:
                    chosen.append((encounter, instance))
        for (encounter, instance), found in zip(chosen, read([i for _, i in chosen], pool), strict=True):
            encounter.crops[instance["instance_id"]] = found
        yield True


def _thumbnail(crop: bytes) -> bytes:
    rgb = photos.decode_jpeg(crop)
    scale = min(1.0, THUMBNAIL / max(rgb.shape[:2]))
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    return photos.encode_jpeg(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), 85)
