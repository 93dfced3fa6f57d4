"""Key points of a grey picture: where blotches lie, and lines end, meet or bend (the detector of SIFT, Lowe 2004)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from pydantic import Field

from pusa.config import Config

SIDE = 320  # px, longer side of the crop in which key points are sought
CLAHE = 2.0  # clip limit of the tone mapping, in 8 x 8 tiles; 0 = off
CONTRAST = 0.005  # of a key point, least; SIFT's own default is 0.04: rings are faint
MARGIN = 7  # px, width of the brush that takes the outline off the mask: an outline is no mark
MARKS = "starter/rings"  # what describes key points where nothing else is said


class KeypointConfig(Config):
    """Settings of key points. Lengths in px are those of the crop scaled to `side`."""

    side: int = Field(default=SIDE, gt=0)  # px, longer side of the crop in which key points are sought
    keypoints: int = Field(default=300, gt=0)  # of a crop at most, the strongest inside the mask
    clahe: float = CLAHE  # clip limit of the tone mapping, in 8 x 8 tiles; 0 = off
    contrast: float = CONTRAST  # of a key point, least
    margin: int = MARGIN  # px, taken off the mask: an outline is no mark
    marks: str | None = MARKS  # weights that describe key points; null: RootSIFT


def detector(contrast: float = CONTRAST) -> cv2.SIFT:
    """SIFT that finds faint marks, too."""
    return cv2.SIFT.create(contrastThreshold=contrast)


def toned(grey: np.ndarray, clahe: float = CLAHE) -> np.ndarray:
    """A grey picture (H, W) uint8, tone-mapped in 8 x 8 tiles."""
    return cv2.createCLAHE(clahe, (8, 8)).apply(grey) if clahe else grey


def body_angle(inside: np.ndarray) -> float:
    """Direction, degrees, of the longer axis of a mask (H, W) bool: 0 along x, 45 to the lower right; -90 to 90."""
    m = cv2.moments(inside.astype(np.uint8), binaryImage=True)
    return math.degrees(math.atan2(2 * m["mu11"], m["mu20"] - m["mu02"]) / 2)


def strongest(
    grey: np.ndarray,
    inside: np.ndarray | None,
    count: int,
    contrast: float = CONTRAST,
    margin: int = MARGIN,
    angle: float | None = None,
) -> Sequence[cv2.KeyPoint]:
    """At most `count` key points of a grey picture (H, W) uint8 inside a mask (H, W) bool less its margin, the
    strongest first. `angle`: of all of them, in place of each one's own; a place that SIFT gives several is one then.

    Not SIFT's own limit: it takes the strongest of the whole picture, and nearly all of them lie on the ground.
    """
    where = None
    if inside is not None:
        where = cv2.erode(inside.astype(np.uint8), np.ones((margin, margin), np.uint8))
    found = sorted(detector(contrast).detect(grey, where), key=lambda k: -k.response)
    if angle is not None:
        found = list({(k.pt, k.size): cv2.KeyPoint(k.pt[0], k.pt[1], k.size, angle) for k in found}.values())
    return found[:count]


def points_in(grey: np.ndarray, inside: np.ndarray, count: int) -> np.ndarray:
    """Key points (n, 2) float32, x and y in shares of width and height, of a crop in grey (h, w) uint8 with its mask
    (h, w) bool; the strongest first."""
    factor = SIDE / max(grey.shape)
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    mask = cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    found = [k.pt for k in strongest(toned(small), mask, count)]
    return np.array(found, np.float32).reshape(-1, 2) / np.array(size, np.float32)
