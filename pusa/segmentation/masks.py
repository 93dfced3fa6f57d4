"""Masks as COCO run-length codes (RLE), and the detections of a photo.

An RLE is {"size": [h, w], "counts": text}: the lengths of runs of background and foreground in turn, background first,
down the columns (column-major), compressed by pycocotools. Masks belong to the whole upright photo; boxes are
x0, y0, x1, y1 in its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from pusa.errors import UserError

Rle = dict[str, Any]


@dataclass(frozen=True)
class Detections:
    """The animals of one photo, best score first: boxes float32 (n, 4), scores float32 (n,) in 0..1, n masks."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    masks: list[Rle]

    def __len__(self) -> int:
        return len(self.masks)

    def above(self, threshold: float) -> Detections:
        """Those with a score of at least `threshold`."""
        keep = self.scores >= threshold
        return Detections(self.boxes[keep], self.scores[keep], [m for m, k in zip(self.masks, keep, strict=True) if k])


def encode(mask: NDArray[np.bool_], size: tuple[int, int] | None = None, corner: tuple[int, int] = (0, 0)) -> Rle:
    """RLE of a bool mask (h, w), or of a photo of `size` (h, w) that is `mask` from `corner` (x, y) on, else empty.

    Only the part is touched: encoding a box of a large photo costs no more than the box.
    """
    h, w = size or mask.shape
    x0, y0 = corner
    if x0 < 0 or y0 < 0 or x0 + mask.shape[1] > w or y0 + mask.shape[0] > h:
        raise ValueError(f"a mask of {mask.shape} at {corner} does not lie in a photo of {(h, w)}")
    # A row of background above and below makes every run start and end within its own column.
    columns = np.pad(mask, ((1, 1), (0, 0))).T.astype(np.int8)
    x, y = np.nonzero(np.diff(columns, axis=1))
    edges = (x + x0) * h + y + y0  # of the whole photo, column-major: start, end, start, end, ...
    # A run to the photo's lower edge meets one from the upper edge of the next column: they are one run.
    meets = np.flatnonzero(edges[1:-1:2] == edges[2::2])
    edges = np.delete(edges, np.concatenate([2 * meets + 1, 2 * meets + 2]))
    counts = np.diff(edges, prepend=0, append=h * w)
    if len(counts) > 1 and counts[-1] == 0:  # the last pixel is set: no run of background follows
        counts = counts[:-1]
    return _text(coco.frPyObjects({"size": [h, w], "counts": counts.tolist()}, h, w))


def decode(rle: Rle) -> NDArray[np.bool_]:
    """The mask (h, w), bool."""
    return coco.decode(rle).astype(bool)


def from_coco(segmentation: Any, height: int, width: int) -> Rle:
    """RLE of an annotation's segmentation: polygons ([[x, y, x, y, ...], ...]), runs as a list, or compressed runs.

    Raises UserError where it is none of these, or of another size than the photo.
    """
    if isinstance(segmentation, list):
        if segmentation and all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in segmentation):
            return _text(coco.merge(coco.frPyObjects(segmentation, height, width)))
    elif isinstance(segmentation, dict) and {"size", "counts"} <= set(segmentation):
        if list(segmentation["size"]) != [height, width]:
            raise UserError(f"expected a mask of {[height, width]} (height, width), found {list(segmentation['size'])}")
        if isinstance(segmentation["counts"], list):
            return _text(coco.frPyObjects(segmentation, height, width))
        return _text(segmentation)
    raise UserError("expected a segmentation as polygons of at least 3 points or as RLE")


def area(rle: Rle) -> int:
    """Number of pixels of the mask."""
    return int(coco.area(rle))


def box(rle: Rle) -> NDArray[np.float32]:
    """The box around the mask: x0, y0, x1, y1 (exclusive edges), float32; zeros for an empty mask."""
    x, y, w, h = coco.toBbox(rle)
    return np.array([x, y, x + w, y + h], np.float32)


def iou(first: Sequence[Rle], second: Sequence[Rle]) -> NDArray[np.float64]:
    """Intersection over union of every pair of masks: (n, m), 0..1."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    return np.asarray(coco.iou(list(first), list(second), [0] * len(second)))


def crop_mask(rle: Rle, crop_box: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask on the pixels of a crop: the part in `crop_box` (x0, y0, x1, y1), scaled to `size` (width, height)."""
    x0, y0, x1, y1 = map(int, crop_box)
    part = coco.decode(rle)[y0:y1, x0:x1]
    if part.shape == (size[1], size[0]):
        return part.astype(bool)
    # Scaled as grey levels and cut at one half: the outline stays where it is to a fraction of a pixel.
    shrinks = size[0] * size[1] < part.size
    scaled = cv2.resize(part * np.uint8(255), size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return scaled >= 128


def _text(rle: Rle) -> Rle:
    """pycocotools gives bytes; JSON and Arrow want text."""
    counts = rle["counts"]
    return {"size": [int(n) for n in rle["size"]], "counts": counts.decode() if isinstance(counts, bytes) else counts}
