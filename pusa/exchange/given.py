"""Instances that the user brings: boxes or masks from another program, in place of Pusa's detector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pusa.errors import UserError
from pusa.records import SIDES

# Categories of camera-trap files that are no animals to identify, in lower case.
NOT_ANIMALS = {"person", "human", "people", "vehicle", "empty", "blank"}
UNNAMED = {"", "na", "n/a", "nan", "none", "null", "unknown", "unidentified"}  # texts that are no individual


@dataclass(frozen=True)
class Given:
    """One animal in one photo.

    `box`: x0, y0, x1, y1, in pixels of the upright photo, or, where `fractions`, in fractions of its width and height.
    `mask`: compressed COCO RLE of the upright photo, or None. `score`: 0 to 1, or None. `identity` is for evaluation
    and enrolment only: no stage that identifies may read it. `id`: of the annotation in a COCO file.
    """

    box: tuple[float, float, float, float]
    fractions: bool = False
    mask: dict[str, Any] | None = None
    score: float | None = None
    side: str = "unknown"
    identity: str | None = None
    id: str | None = None

    @property
    def corner(self) -> tuple[int, int]:
        """x, y of the upper left pixel of the box, in pixels: where the maps of a synthetic truth begin."""
        return int(self.box[0]), int(self.box[1])

    def box_in(self, width: int, height: int) -> np.ndarray:
        """The box in pixels of a photo of `width` x `height`, clipped to it: 4 x float32."""
        x, y = (width, height) if self.fractions else (1, 1)
        box = np.array(self.box, np.float64) * (x, y, x, y)
        return np.clip(box, 0, (width, height, width, height)).astype(np.float32)


def corners(bbox: Any, where: str) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a `bbox` x, y, width, height. Raises UserError, beginning with `where`, for what is no box."""
    numbers = isinstance(bbox, list) and all(isinstance(v, int | float) and math.isfinite(v) for v in bbox)
    if not numbers or len(bbox) != 4 or bbox[2] <= 0 or bbox[3] <= 0:
        raise UserError(f"{where}: expected a bbox [x, y, width, height] with a size above 0, found {bbox!r}.")
    x, y, w, h = map(float, bbox)
    return x, y, x + w, y + h


def score(value: Any, where: str) -> float:
    """A score from 0 to 1. Raises UserError, beginning with `where`, for anything else."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{where}: expected a score from 0 to 1, found {value!r}.")
    return float(value)


def side(value: Any, where: str) -> str:
    """One of SIDES; nothing is "unknown". Raises UserError, beginning with `where`, for other sides."""
    text = str(value or "unknown").strip().lower()
    if text not in SIDES:
        raise UserError(f"{where}: expected a side out of {', '.join(SIDES)}, found {value!r}.")
    return text


def identity(value: Any) -> str | None:
    """The name of an individual as text (numbers are names, too); None where it says that there is none."""
    text = "" if value is None else str(value).strip()
    return None if text.lower() in UNNAMED else text
