"""Pictures of encounters: their crops and patterns, out of the runs that they come from."""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np

from pusa import records
from pusa.gallery import geometry
from pusa.gallery.journal import Key
from pusa.gallery.store import Gallery
from pusa.photos import decode_jpeg, decode_mask_png, encode_jpeg
from pusa.records import Run
from pusa.report import pictures
from pusa.report.survey import reason_of
from pusa.segmentation.masks import crop_mask
from serving.workers import Pair

HELD = 64  # encounters whose pictures are kept in memory, about 1 MB each
PATTERN = (640, 640)  # px, limits of a pattern's picture
PHOTO_COLUMNS = ("photo_id", "path", "taken_at")
COLUMNS = ("instance_id", "side", "box", "score", "mask", "crop_box", "crop", "pattern", "usable", "unusable_reason",
           "patch_boxes")  # fmt: skip

T = TypeVar("T")


@dataclass(frozen=True)
class Crop:
    """One picture of an encounter. `pattern`: whether it has one; `width`, `height`: of the crop in the photo, px."""

    instance_id: str
    path: str
    taken_at: dt.datetime | None
    side: str
    box: list[float]
    score: float | None
    width: int
    height: int
    patches: int
    reason: str | None  # why its pattern is not usable; None where it is
    picture: bytes
    row: dict[str, Any]

    @property
    def has_pattern(self) -> bool:
        return bool(self.row.get("pattern"))

    def pattern(self) -> bytes | None:
        """The pattern as a PNG on the shape of the crop: rings white where they are compared, grey where dropped."""
        if not self.has_pattern:
            return None
        size = pictures.fit(self.width, self.height, PATTERN)
        x0, y0, x1, y1 = self.row["crop_box"]
        mask = (
            crop_mask(self.row["mask"], self.row["crop_box"], size) if self.row["mask"] else np.ones(size[::-1], bool)
        )
        scale = np.array(size * 2) / ((x1 - x0, y1 - y0) * 2)
        patches = (np.array(self.row["patch_boxes"], float).reshape(-1, 4) - (x0, y0) * 2) * scale
        panel = pictures.pattern_panel(decode_mask_png(self.row["pattern"]), mask, patches)
        return cv2.imencode(".png", panel)[1].tobytes()


class Album:
    """Reads crops from runs, and from the gallery where a run is gone."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, tuple[dict[str, list[str]], dict[str, str]]] = OrderedDict()
        self._crops: OrderedDict[Key, list[Crop]] = OrderedDict()

    def crops(self, key: Key) -> list[Crop]:
        """All pictures of an encounter, in the order of its photos."""
        return _held(self._lock, self._crops, key, HELD, lambda: self._read(key))

    def _read(self, key: Key) -> list[Crop]:
        run = Run(key[0])
        members, file_of = _held(self._lock, self._runs, key[0], HELD, lambda: _index(run)) if _there(run) else ({}, {})
        wanted = members.get(key[1])
        if wanted is None:
            return self._kept(key)
        found: dict[str, Crop] = {}
        columns = [*PHOTO_COLUMNS, *(f"instances.list.element.{c}" for c in COLUMNS)]
        for file in sorted({file_of[i] for i in wanted}):
            photos = run.read_file(file, columns)
            rows = photos.drop_columns(["instances"]).to_pylist()
            for photo, instances in zip(rows, records.instances(photos), strict=True):
                found |= {i["instance_id"]: _crop(photo, i) for i in instances if i["instance_id"] in set(wanted)}
        order = sorted(wanted, key=lambda i: (found[i].taken_at or dt.datetime.max, found[i].path, i))
        return [found[i] for i in order]

    def _kept(self, key: Key) -> list[Crop]:
        """The crops that the gallery keeps: small, without a pattern, and a few only."""
        found = []
        for row in sorted(self.gallery.crops([key])[0], key=lambda r: r["instance_id"]):
            height, width = decode_jpeg(row["picture"]).shape[:2]
            nothing: dict[str, Any] = {"pattern": None}
            found.append(
                Crop(row["instance_id"], row["instance_id"], None, "unknown", [], None, width, height, 0, None,
                     row["picture"], nothing)
            )  # fmt: skip
        return found


def _there(run: Run) -> bool:
    try:
        return run.exists()
    except OSError:
        return False


def _held(lock: threading.Lock, kept: OrderedDict[Any, T], key: Any, most: int, make: Callable[[], T]) -> T:
    """What is kept under a key, or made and kept; the one not used for longest goes."""
    with lock:
        if key in kept:
            kept.move_to_end(key)
            return kept[key]
    made = make()
    with lock:
        kept[key] = made
        while len(kept) > most:
            kept.popitem(last=False)
    return made


def _index(run: Run) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The instances of each encounter of a run, and the file that holds each instance."""
    members = dict(zip(*run.read("encounters", ["encounter_id", "instance_ids"]).to_pydict().values(), strict=True))
    file_of: dict[str, str] = {}
    for file in run.files("photos"):
        nested = records.instances(run.read_file(file, ["instances.list.element.instance_id"]))
        file_of |= {i["instance_id"]: file for row in nested for i in row}
    return members, file_of


def _crop(photo: dict[str, Any], i: dict[str, Any]) -> Crop:
    x0, y0, x1, y1 = (int(v) for v in i["crop_box"])
    box = [round(float(v), 1) for v in i["box"]]
    reason = None if i["usable"] else reason_of(i)
    return Crop(
        i["instance_id"], photo["path"], photo["taken_at"], i["side"], box, i["score"], x1 - x0, y1 - y0,
        len(i["patch_boxes"] or ()), reason, i["crop"], i,
    )  # fmt: skip


@dataclass(frozen=True)
class Matched:
    """Two crops as a page shows them, `width` x `height` px each: the query's, and the candidate's turned by the map
    that the verification found, so that what matches lies at the same place. `lines`: x, y and x, y in these."""

    width: int
    height: int
    first: str  # data URIs
    second: str
    turned: str
    lines: list[tuple[float, float, float, float]]


def matched(pair: Pair) -> Matched:
    """A pair of crops as pictures."""
    first, second = decode_jpeg(pair.first.picture), decode_jpeg(pair.second.picture)
    height, width = first.shape[:2]
    s1, s2 = max(first.shape[:2]) / pair.first.side, max(second.shape[:2]) / pair.second.side
    c1, c2 = np.array(pair.first.corner), np.array(pair.second.corner)
    linear, shift = pair.match.map[:, :2], pair.match.map[:, 2]
    # From pixels of the first picture to pixels of the second one.
    there = np.column_stack([linear * (s2 / s1), s2 * (linear @ c1 + shift - c2)])
    turned = cv2.warpAffine(
        second, there, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=(128, 128, 128)
    )
    back = cv2.invertAffineTransform(there)
    a = (pair.match.first - c1) * s1
    b = ((pair.match.second - c2) * s2) @ back[:, :2].T + back[:, 2]
    lines = [(*p, *q) for p, q in zip(np.round(a, 1).tolist(), np.round(b, 1).tolist(), strict=True)]
    shown = [pictures.data_uri(p, "jpeg", 85) for p in (first, second, turned)]
    return Matched(width, height, shown[0], shown[1], shown[2], lines)


def match_jpeg(pair: Pair) -> bytes:
    """Both crops side by side, with lines: the picture that `pusa identify` makes."""
    return encode_jpeg(geometry.draw(pair.first, pair.second, pair.match), 85)
