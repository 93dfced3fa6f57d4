"""Patches of the grey crop, without any extraction: the rows "no pattern" of the paper's Table 3.

Such a patch covers what a pattern patch covers, on average: its side is a fixed share of the animal's size, the root of
the mask's area. No patch is dropped for being dark; those that lie mostly outside the animal are.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from pusa import photos as photo_files
from pusa import records
from pusa.config import set_threads
from pusa.pattern import patches
from pusa.pattern.extract import PatternConfig, unusable
from pusa.pattern.patches import PatchConfig
from pusa.segmentation.masks import crop_mask

CLIP = 2.0  # of the tone mapping (CLAHE), in tiles of a patch
INSIDE = 0.5  # share of a patch that lies on the animal, at least
LARGEST = 2048  # px, longer side of the scaled crop: a sliver of a mask would make it huge


class GreyPatches:
    """Takes the place of `PatternExtractor` where `grey_side` is set: fills `usable`, `unusable_reason` and
    `patch_boxes`, and leaves `pattern` null."""

    def __init__(self, config: PatternConfig, threads: int | None = None) -> None:
        set_threads(threads)
        self.config = config

    def __call__(self, photos: pa.Table) -> pa.Table:
        nested = records.instances(photos)
        for instance in (i for row in nested for i in row if i["crop"] is not None):
            x0, y0, x1, y1 = instance["crop_box"]
            if max(x1 - x0, y1 - y0) < self.config.min_side:
                instance |= unusable("too small")
                continue
            found = boxes(instance, self.config.grey_side or 0, self.config.patches)
            instance |= unusable("no patch on the animal")
            if len(found):
                instance |= {"usable": True, "unusable_reason": None, "patch_boxes": found.tolist()}
        return records.with_instances(photos, nested)


def boxes(instance: dict[str, Any], side: float, config: PatchConfig) -> np.ndarray:
    """Patches (n, 4) float32 in photo pixels on an instance (crop_box, mask; None: all of the crop); `side`: of a
    patch, in roots of the mask's area."""
    x0, y0, x1, y1 = (int(v) for v in instance["crop_box"])
    mask = np.ones((y1 - y0, x1 - x0), bool)
    if instance["mask"] is not None:
        mask = crop_mask(instance["mask"], instance["crop_box"], (x1 - x0, y1 - y0))
    scale = patches.SIZE / max(side * np.sqrt(mask.sum()), 1)
    scale = min(scale, LARGEST / max(mask.shape))
    inside = patches.resize(mask, (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale))))
    grid = patches.grid(inside.shape, config.stride)
    grid = grid[patches.enough_white(patches.windows(inside, grid), INSIDE)]
    return patches.to_photo(grid, inside.shape[::-1], instance["crop_box"])


def picture(instance: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """The crop of an instance (crop, crop_box, mask) in grey at `size` (width, height), tone-mapped, (h, w) uint8;
    black outside the mask."""
    grey = cv2.cvtColor(photo_files.decode_jpeg(instance["crop"]), cv2.COLOR_RGB2GRAY)
    shrinks = size[0] < grey.shape[1]
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    tiles = tuple(max(1, round(length / patches.SIZE)) for length in size)
    grey = cv2.createCLAHE(CLIP, tiles).apply(grey)
    if instance["mask"] is None:
        return grey
    return np.where(crop_mask(instance["mask"], instance["crop_box"], size), grey, 0).astype(np.uint8)


def cut(instance: dict[str, Any]) -> np.ndarray:
    """Patches (n, 64, 64) float32 in [0, 1] of an instance at its `patch_boxes`."""
    found = np.array(instance["patch_boxes"], np.float32).reshape(-1, 4)
    if not len(found):
        return np.zeros((0, patches.SIZE, patches.SIZE), np.float32)
    corners, size = patches.from_photo(found, instance["crop_box"])
    return patches.windows(picture(instance, size), corners).astype(np.float32) / 255
