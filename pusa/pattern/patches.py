"""Patches of a pattern: squares on a regular grid, or around key points, of the pattern with lines of normal thickness.

The pattern of an instance is stored on the pixels of its crop box, whatever its size; its patches are cut from that
pattern resized so that its lines are 2 px thick. The boxes of the patches, in photo pixels, say everything: `cut` finds
the resized pattern and the grid again from them, exactly, so the embedding needs no setting of the extraction.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from pusa.config import Config

SIZE = 64  # px, of a patch; the networks that read patches are made for it


class PatchConfig(Config):
    """Settings of the patches."""

    # grid: as in the paper. keypoints: around those of the grey crop, where its marks are, whatever the animal's pose
    at: Literal["grid", "keypoints"] = "keypoints"
    stride: int = 16  # of the grid: px between neighbours on the normalised pattern; 64 = no overlap
    most: int = 200  # patches around key points of a crop, the strongest
    apart: int = 6  # px between two of them, at least, along one of the axes
    min_white: float = 0.10  # patches with a smaller share of white pixels are dropped; 0 keeps all


def grid(shape: tuple[int, int], stride: int) -> np.ndarray:
    """Boxes (n, 4) int64 of all patches on a picture of `shape` (h, w): x0, y0, x1, y1, row by row.

    A regular grid in the middle: what is left over, less than a stride, is shared by both ends, where the outline of
    the seal is anyway. A side shorter than a patch has one patch, which reaches over its end: `windows` pads black.
    """

    def starts(length: int) -> range:
        last = max(length - SIZE, 0)
        return range(last % stride // 2, last + 1, stride)

    corners = np.array([(x, y) for y in starts(shape[0]) for x in starts(shape[1])], np.int64)
    return np.hstack((corners, corners + SIZE))


def windows(pattern: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The pixels (n, 64, 64) bool of `boxes` (n, 4) int in `pattern` (H, W) bool; black beyond the bottom and right."""
    height, width = pattern.shape
    padded = np.pad(pattern, ((0, max(SIZE - height, 0)), (0, max(SIZE - width, 0))))
    every = np.lib.stride_tricks.sliding_window_view(padded, (SIZE, SIZE))
    return every[boxes[:, 1], boxes[:, 0]].copy()


def enough_white(patches: np.ndarray, min_white: float) -> np.ndarray:
    """(n,) bool: which of `patches` (n, 64, 64) bool have at least the share `min_white` of white pixels."""
    return patches.reshape(len(patches), -1).mean(axis=1) >= min_white


def around(points: np.ndarray, shape: tuple[int, int], apart: int) -> np.ndarray:
    """Boxes (n, 4) int64 on a picture of `shape` (h, w) around points (m, 2), x and y in its pixels, less those nearer
    than `apart` to an earlier one. A box that would reach over the edge is moved inside."""
    chosen: list[np.ndarray] = []
    for point in points:
        if all(np.abs(point - other).max() >= apart for other in chosen):
            chosen.append(point)
    middles = np.array(chosen).reshape(-1, 2)
    corners = np.rint(middles - SIZE / 2).astype(np.int64).clip(0, np.maximum(np.array(shape[::-1]) - SIZE, 0))
    return np.hstack((corners, corners + SIZE))


def extract(
    pattern: np.ndarray, config: PatchConfig, points: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Patches (n, 64, 64) bool of a normalised pattern (H, W) bool, and their boxes (n, 4) int64 in its pixels: on the
    grid, or around `points` (m, 2), x and y in shares of its width and height, the most important first."""
    if points is None:
        boxes = grid(pattern.shape, config.stride)
    else:
        boxes = around(points * np.array(pattern.shape[::-1]), pattern.shape, config.apart)
    patches = windows(pattern, boxes)
    keep = np.flatnonzero(enough_white(patches, config.min_white))[: None if points is None else config.most]
    return patches[keep], boxes[keep]


def resize(pattern: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pattern (H, W) bool at `size` (width, height): a pixel is white where at least half of its area is."""
    shrinks = size[0] < pattern.shape[1]
    grey = pattern.astype(np.uint8) * np.uint8(255)
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR) >= 128


def to_photo(boxes: np.ndarray, size: tuple[int, int], crop_box: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) of a pattern of `size` (width, height) that covers `crop_box` (4,), as float32 photo pixels."""
    x0, y0, x1, y1 = (float(v) for v in crop_box)
    scale = np.array([(x1 - x0) / size[0], (y1 - y0) / size[1]] * 2)
    return (boxes * scale + (x0, y0, x0, y0)).astype(np.float32)


def from_photo(boxes: np.ndarray, crop_box: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """The inverse of `to_photo`: boxes (n, 4) int64 and the size (width, height) of their pattern; n > 0."""
    x0, y0, x1, y1 = (float(v) for v in crop_box)
    boxes = np.asarray(boxes, np.float64)
    side = (boxes[:, 2:] - boxes[:, :2]).mean(axis=0)  # of a patch in photo pixels; float32 noise averages out
    size = np.rint(SIZE * np.array([x1 - x0, y1 - y0]) / side)
    corners = np.rint((boxes[:, :2] - (x0, y0)) * SIZE / side).astype(np.int64)
    return np.hstack((corners, corners + SIZE)), (int(size[0]), int(size[1]))


def cut(pattern: np.ndarray, boxes: np.ndarray, crop_box: np.ndarray) -> np.ndarray:
    """Patches (n, 64, 64) bool at `boxes` (n, 4), photo pixels as in `patch_boxes`, of a stored pattern (H, W) bool on
    `crop_box` (4,): the very patches that the extraction kept."""
    if len(boxes) == 0:
        return np.zeros((0, SIZE, SIZE), bool)
    corners, size = from_photo(boxes, crop_box)
    return windows(resize(pattern, size), corners)
