"""Pictures of instances: the small crop, the outline of its mask, its pattern as a panel.

All three have the same pixels, so they lie on each other exactly; the outline is a drawing of its own, so that the
reader sees the clean picture first.
"""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BODY, DROPPED, RING = 51, 136, 255  # grey levels of a pattern panel: the animal dark on black, its rings white
STEP = 17  # between the 16 grey levels of a panel: a third less to store, and no eye sees it


def fit(width: int, height: int, limits: tuple[int, int]) -> tuple[int, int]:
    """Size (width, height) of a picture shrunk, never enlarged, into `limits` (width, height); at least 1 x 1 px."""
    factor = min(1.0, limits[0] / width, limits[1] / height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def thumbnail(rgb: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    """`rgb` (H, W, 3) uint8 shrunk into `limits` (width, height)."""
    size = fit(rgb.shape[1], rgb.shape[0], limits)
    return rgb if size == rgb.shape[1::-1] else cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def outline(mask: NDArray[np.bool_], tolerance: float = 0.7) -> list[NDArray[Any]]:
    """The contours of `mask` (H, W), holes included: polygons (n, 2) int32 of x, y through its border pixels.

    `tolerance`: how far, in px, a polygon may leave the border; 0 keeps every corner.
    """
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [cv2.approxPolyDP(contour, tolerance, True)[:, 0] for contour in found]


def svg_path(polygons: list[NDArray[Any]]) -> str:
    """Closed polygons (n, 2) of pixels as the `d` of an SVG path; the middle of pixel 0 is at 0.5."""
    return "".join("M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in polygon) + "Z" for polygon in polygons)


def pattern_panel(
    pattern: NDArray[np.bool_], mask: NDArray[np.bool_], patches: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Grey picture (H, W) of a pattern on the pixels of `mask` (H, W): rings on the dark animal on black.

    Rings are white inside the `patches` (n, 4: x0, y0, x1, y1 in pixels of `mask`) that are compared, and grey where
    they were dropped. `pattern` may have other pixels of the same crop; lines that get thinner than a pixel turn grey
    but do not break.
    """
    size = mask.shape[1::-1]
    shrinks = size[0] < pattern.shape[1]
    rings = cv2.resize(pattern.astype(np.float32), size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    tone = np.full(mask.shape, DROPPED)
    for x0, y0, x1, y1 in np.rint(np.maximum(patches, 0)).astype(int):
        tone[y0:y1, x0:x1] = RING
    body = np.where(mask, BODY, 0)
    return (np.rint((body + rings * (tone - body)) / STEP) * STEP).astype(np.uint8)


def data_uri(picture: np.ndarray, form: str, quality: int = 80) -> str:
    """A picture, RGB (H, W, 3) or grey (H, W) uint8, as a data URI of a "jpeg" (of `quality`) or a "png"."""
    pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if form == "jpeg" else []
    content = cv2.imencode(f".{form}", pixels, options)[1]
    return encoded(content.tobytes(), form)


def encoded(content: bytes, form: str) -> str:
    """The content of a "jpeg" or a "png" as a data URI."""
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"
