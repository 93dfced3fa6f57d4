"""Contact sheets of the grouping: a picture a sequence, its groups as rows, its photos as columns, doubts marked.

A member is in doubt where it is nearer to another group of its sequence, on average, than to its own (silhouette below
0, Rousseeuw 1987): a person looks at these first.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from PIL import Image, ImageDraw
from sklearn.metrics import silhouette_samples

from pusa import photos as photo_files
from pusa import records, storage
from pusa.records import Run
from pusa.report import pictures

CELL, LABEL, HEAD, LOWEST = 132, 110, 26, 64  # px: a picture's field, column of names, row of times, least row
PAPER, INK, MUTED, LINE, DOUBT = (250, 250, 248), (30, 30, 30), (120, 120, 120), (225, 225, 220), (200, 60, 30)
COLUMNS = "instance_id", "descriptor", "crop"


@dataclass(frozen=True)
class Member:
    """An instance in its sequence: number of its group (row) and photo (column), descriptor, crop (JPEG)."""

    group: int
    photo: int
    descriptor: np.ndarray
    crop: bytes


def write_sheets(run: Run) -> list[str]:
    """Writes RUN/sheets/<number>.jpg for every sequence with an encounter, and returns their paths. The files are
    numbered in the order of the sequences' names, which each sheet bears."""
    run.finished_manifest()
    run.clear("sheets")
    paths = []
    for number, (title, times, names, members) in enumerate(_sequences(run), 1):
        picture = sheet(title, times, names, members)
        path = run.file("sheets", f"{number:05d}.jpg")
        storage.write_bytes(run.fs, path, photo_files.encode_jpeg(picture, 88))
        paths.append(path)
    return paths


def doubtful(members: list[Member]) -> np.ndarray:
    """Which members (n,) bool lie nearer to another group than to their own; none where there is only one group."""
    groups = np.array([m.group for m in members])
    if not 1 < len(set(groups)) < len(groups):
        return np.zeros(len(members), bool)
    descriptors = np.array([m.descriptor for m in members], np.float64)
    return silhouette_samples(descriptors, groups) < 0


def sheet(title: str, times: list[str], names: list[str], members: list[Member]) -> np.ndarray:
    """A contact sheet (H, W, 3) uint8 RGB. `times`: of the photos, the columns; `names`: of the groups, the rows."""
    small = [pictures.thumbnail(photo_files.decode_jpeg(m.crop), (CELL - 10, CELL - 10)) for m in members]
    mine = [[k for k, m in enumerate(members) if m.group == row] for row in range(len(names))]
    heights = [max([LOWEST, *(small[k].shape[0] + 10 for k in ids)]) for ids in mine]
    width = LABEL + CELL * len(times)
    paper = Image.new("RGB", (max(width, 640), 2 * HEAD + sum(heights)), PAPER)
    draw = ImageDraw.Draw(paper)
    draw.text((10, 7), title, INK)
    for column, time in enumerate(times):
        draw.text((LABEL + CELL * column + 5, HEAD + 6), time, MUTED)
    doubts, top = doubtful(members), 2 * HEAD
    for name, ids, height in zip(names, mine, heights, strict=True):
        draw.line((0, top, width, top), LINE)
        draw.text((10, top + 8), name, INK)
        draw.text((10, top + 25), f"{len(ids)} photo{'s' if len(ids) != 1 else ''}", MUTED)
        if count := int(doubts[ids].sum()):
            draw.text((10, top + 42), f"{count} in doubt", DOUBT)
        for k in ids:
            h, w = small[k].shape[:2]
            x, y = LABEL + CELL * members[k].photo + 5, top + (height - h) // 2
            paper.paste(Image.fromarray(small[k]), (x, y))
            if doubts[k]:
                draw.rectangle((x - 3, y - 3, x + w + 2, y + h + 2), outline=DOUBT, width=3)
        top += height
    return np.asarray(paper)


def _sequences(run: Run) -> Iterator[tuple[str, list[str], list[str], list[Member]]]:
    """Title, times, names of groups, and members, of each sequence by name."""
    encounters: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    for row in run.read("encounters", ["encounter_id", "sequence_id", "instance_ids"]).to_pylist():
        encounters[row["sequence_id"]].append((row["encounter_id"], row["instance_ids"]))
    files: dict[str, list[str]] = defaultdict(list)
    for file in run.files("photos"):
        for sequence_id in set(run.read_file(file, ["sequence_id"])["sequence_id"].to_pylist()):
            files[sequence_id].append(file)
    for sequence_id, groups in sorted(encounters.items()):
        groups.sort(key=lambda g: int(g[0].rsplit("#", 1)[1]))
        owner = {i: k for k, (_, ids) in enumerate(groups) for i in ids}
        photos = _photos(run, files[sequence_id], sequence_id, owner)
        members = [
            Member(owner[i["instance_id"]], column, np.asarray(i["descriptor"]), i["crop"])
            for column, (_, _, nested) in enumerate(photos)
            for i in nested
        ]
        times = [f"{t:%H:%M:%S}" if t else path.rsplit("/", 1)[-1][:16] for t, path, _ in photos]
        names = [e.removeprefix(sequence_id) for e, _ in groups]
        yield f"{sequence_id}: {len(groups)} animals in {len(photos)} photos", times, names, members


def _photos(
    run: Run, files: list[str], sequence_id: str, owner: dict[str, int]
) -> list[tuple[dt.datetime | None, str, list[dict[str, Any]]]]:
    """Time, path and grouped instances of the photos of one sequence that have such, in order."""
    nested = [f"instances.list.element.{name}" for name in COLUMNS]
    found = []
    for file in files:
        rows = run.read_file(file, ["sequence_id", "taken_at", "path", *nested])
        rows = rows.filter(pc.equal(rows["sequence_id"], sequence_id))
        for row, instances in zip(rows.select(["taken_at", "path"]).to_pylist(), records.instances(rows), strict=True):
            if mine := [i for i in instances if i["instance_id"] in owner]:
                found.append((row["taken_at"], row["path"], mine))
    return sorted(found, key=lambda p: (p[0] is None, p[0] or dt.datetime.min, p[1]))
