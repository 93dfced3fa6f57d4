"""Sequences: the photos of one place in one short time.

Grouping compares animals within a sequence only: a wrong cut makes an encounter too many, a wrong merge mixes places.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import field_validator, model_validator

from pusa.config import Config
from pusa.errors import UserError
from pusa.exchange.tables import named, read_csv
from pusa.listing import normal_path

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
# Folders that cameras make themselves (DCF standard: DCIM/100CANON); the next one after 999 photos is the same place.
CAMERA_FOLDER = re.compile(r"DCIM|[1-9]\d\d[A-Z_][A-Z0-9_]{4}")


class SequenceConfig(Config):
    """How photos are put into sequences."""

    by: Literal["folder", "gap", "csv"] = "folder"  # a folder a sequence; or cut at pauses; or from a CSV
    gap: str = "60min"  # longest pause within a sequence, for by = gap; a number with s, min, h or d
    csv: str | None = None  # file with the columns path and sequence_id, for by = csv

    @field_validator("gap")
    @classmethod
    def _gap(cls, value: str) -> str:
        try:
            parse_duration(value)
        except UserError as e:
            raise ValueError(str(e)) from e
        return value

    @model_validator(mode="after")
    def _csv(self) -> SequenceConfig:
        if (self.by == "csv") != (self.csv is not None):
            raise ValueError("`by: csv` and the file `csv` go together")
        return self


@dataclass(frozen=True)
class Taken:
    """What sequences are made of: path in the archive, corrected time, camera and deployment; None: not known."""

    path: str
    taken_at: dt.datetime | None = None
    camera: str | None = None
    deployment_id: str | None = None


def parse_duration(text: str) -> float:
    """Seconds of a duration such as "90s", "60min", "1.5h" or "2d". Raises UserError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip())
    if not match or match[2] not in UNITS:
        raise UserError(f"{text!r} is no duration. Expected a number and a unit, such as 90s, 60min, 1.5h or 2d.")
    return float(match[1]) * UNITS[match[2]]


def folder_of(path: str) -> str:
    """The folder of a photo, relative to the archive; "." at its root."""
    return path.rpartition("/")[0] or "."


def in_order(photo: Taken) -> tuple[bool, dt.datetime, str]:
    """Sort key within a sequence: by time, those without a time last; then by path."""
    return photo.taken_at is None, photo.taken_at or dt.datetime.min, photo.path


def sequence_ids(photos: Sequence[Taken], config: SequenceConfig) -> tuple[list[str], list[str]]:
    """The sequence of each photo, in the order of `photos`, and notices to the user.

    Raises UserError for a CSV that cannot be read or names none of the photos.
    """
    if config.by == "csv":
        assert config.csv is not None
        return _by_csv(photos, config.csv)
    if config.by == "gap":
        return _by_gap(photos, parse_duration(config.gap)), []
    return [folder_of(photo.path) for photo in photos], []


def split_at_gaps(times: Sequence[dt.datetime], gap: float) -> list[list[int]]:
    """Positions in `times`, sorted by time and cut wherever the next time comes more than `gap` seconds later."""
    runs: list[list[int]] = []
    for i in sorted(range(len(times)), key=times.__getitem__):
        if runs and (times[i] - times[runs[-1][-1]]).total_seconds() <= gap:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def _by_gap(photos: Sequence[Taken], gap: float) -> list[str]:
    """Cuts the photos of one camera at one place wherever it paused for more than `gap` seconds.

    The place is the deployment, else the folder without the parts that the camera made: without serial numbers, two
    cameras of one kind are only told apart by their folders. A photo without a time is in the sequence of its folder.
    """
    streams: dict[tuple[str, str], list[int]] = defaultdict(list)
    ids = [folder_of(photo.path) for photo in photos]
    for i, photo in enumerate(photos):
        if photo.taken_at is not None:
            parts = [part for part in ids[i].split("/") if not CAMERA_FOLDER.fullmatch(part)]
            streams[photo.deployment_id or "/".join(parts) or ".", photo.camera or ""].append(i)
    used: dict[str, int] = defaultdict(int)
    for (place, _), stream in sorted(streams.items()):
        times = [photos[i].taken_at or dt.datetime.min for i in stream]
        for run in split_at_gaps(times, gap):
            name = f"{place}@{times[run[0]]:%Y-%m-%dT%H-%M-%S}"
            used[name] += 1  # two cameras at one place may start in the same second
            for position in run:
                ids[stream[position]] = name if used[name] == 1 else f"{name}-{used[name]}"
    return ids


def _by_csv(photos: Sequence[Taken], path: str) -> tuple[list[str], list[str]]:
    """Sequences from a CSV. A photo that it does not name is a sequence of its own: nothing says whose it is."""
    listed = _listed(path)
    names = [normal_path(photo.path) for photo in photos]
    absent = sorted(listed.keys() - set(names))
    unlisted = [photo.path for photo, name in zip(photos, names, strict=True) if name not in listed]
    if len(unlisted) == len(photos):
        example = f"The CSV has {absent[0]}, the archive {photos[0].path}. " if absent and photos else ""
        raise UserError(f"{path} names none of the photos. {example}Paths must be relative to the archive.")
    notices = []
    if absent:
        notices.append(f"{named(absent)} in {path} but not in the archive.")
    if unlisted:
        notices.append(f"{named(unlisted)} not in {path}: each is a sequence of its own.")
    return [listed.get(name, photo.path) for photo, name in zip(photos, names, strict=True)], notices


def _listed(path: str) -> dict[str, str]:
    """The sequence of each photo that a file names: a CSV, a table of wildlife-datasets, or Camtrap DP."""
    from pusa.exchange import kind_of, read_photos

    if (kind := kind_of(path)) != "csv":
        found = {name: p.sequence_id for name, p in read_photos(path).items() if p.sequence_id is not None}
        if not found:
            expected = {
                "wildlife-datasets": "a column sequence_id or video",
                "camtrap-dp": "media-level observations with an eventID",
            }.get(kind, "a CSV with the columns path and sequence_id")
            raise UserError(f"{path}: expected sequences ({expected}), found none. --gap makes them from the times.")
        return found
    listed: dict[str, str] = {}
    for line, row in read_csv(path, required=("path", "sequence_id")):
        name, sequence = normal_path(row["path"]), row["sequence_id"]
        if not name or not sequence:
            raise UserError(f"{path}, line {line}: `{'sequence_id' if name else 'path'}` is empty.")
        if listed.setdefault(name, sequence) != sequence:
            raise UserError(f"{path}, line {line}: {name} is in two sequences, {listed[name]} and {sequence}.")
    return listed


def by_size(sizes: Iterable[int]) -> dict[str, int]:
    """How many of `sizes` (photos of a sequence, at least 1) are 1, 2, 3 to 4, 5 to 8, 9 to 16, and so on."""
    bins = Counter((size - 1).bit_length() for size in sizes)
    return {str(2**b) if b < 2 else f"{2 ** (b - 1) + 1} to {2**b}": bins[b] for b in range(max(bins, default=-1) + 1)}
