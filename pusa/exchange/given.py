"""Instances that the user brings: boxes or masks from another program, in place of Pusa's detector."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pusa.errors import UserError
from pusa.records import SIDES
from pusa.segmentation import masks

# Categories of camera-trap files that are no animals to identify, in lower case.
NOT_ANIMALS = {"person", "human", "people", "vehicle", "empty", "blank"}
UNNAMED = {"", "na", "n/a", "nan", "none", "null", "unknown", "unidentified"}  # texts that are no individual


@dataclass(frozen=True)
class Given:
    """One animal in one photo.

    `box`: x0, y0, x1, y1, in pixels of the upright photo, or, where `fractions`, in fractions of its width and height.
    `mask`: compressed COCO RLE of the upright photo, or None. `score`: 0 to 1, or None. `identity` is for evaluation
    and enrolment only: no stage that identifies may read it. `id`: of the annotation in its file. `later` makes the
    mask from the photo's height and width, where that takes another picture or a size that the file does not tell.
    """

    box: tuple[float, float, float, float]
    fractions: bool = False
    mask: dict[str, Any] | None = None
    score: float | None = None
    side: str = "unknown"
    identity: str | None = None
    id: str | None = None
    later: Callable[[int, int], dict[str, Any]] | None = None

    @property
    def whole(self) -> bool:
        """Whether it is all of the photo: nothing says where in it the animal is."""
        return self.mask is None and self.later is None and self.fractions and self.box == (0, 0, 1, 1)

    @property
    def corner(self) -> tuple[int, int]:
        """x, y of the upper left pixel of the box, in pixels: where the maps of a synthetic truth begin."""
        return int(self.box[0]), int(self.box[1])

    def box_in(self, width: int, height: int) -> np.ndarray:
        """The box in pixels of a photo of `width` x `height`, clipped to it: 4 x float32."""
        x, y = (width, height) if self.fractions else (1, 1)
        box = np.array(self.box, np.float64) * (x, y, x, y)
        return np.clip(box, 0, (width, height, width, height)).astype(np.float32)

    def with_mask(self, height: int, width: int) -> Given:
        """With the mask that `later` makes for a photo of this size, and its box. Raises UserError where it cannot."""
        if self.later is None:
            return self
        mask = self.later(height, width)
        x0, y0, x1, y1 = map(float, masks.box(mask))
        return replace(self, box=(x0, y0, x1, y1), fractions=False, mask=mask, later=None)


@dataclass(frozen=True)
class Listed:
    """What a file says of a photo besides its animals. `taken_at`: local time."""

    taken_at: dt.datetime | None = None
    deployment_id: str | None = None
    sequence_id: str | None = None


def check_names(instances: Mapping[str, Sequence[Given]], source: str) -> None:
    """Raises UserError where two animals of one photo have one name."""
    for path, found in instances.items():
        names = Counter(g.identity for g in found if g.identity is not None)
        if double := [name for name, n in names.items() if n > 1]:
            ids = ", ".join(str(g.id) for g in found if g.identity == double[0])
            raise UserError(
                f"{source}: expected an individual once in a photo, found {double[0]} {names[double[0]]} times in "
                f"{path} "
                f"(ids {ids}). Correct a name, or leave it empty where nobody knows the animal."
            )


def corners(bbox: Any, where: str) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a `bbox` x, y, width, height. Raises UserError, beginning with `where`, for what is no box."""
    numbers = isinstance(bbox, list) and all(isinstance(v, int | float) and math.isfinite(v) for v in bbox)
    if not numbers or len(bbox) != 4 or bbox[2] <= 0 or bbox[3] <= 0:
        raise UserError(f"{where}: expected a bbox [x, y, width, height] with a size above 0, found {bbox!r}.")
    x, y, w, h = map(float, bbox)
    return x, y, x + w, y + h


def check_inside(box: Sequence[float], width: float, height: float, where: str) -> None:
    """Raises UserError, beginning with `where`, for a box x0, y0, x1, y1 that leaves its photo by over a hundredth of
    its size (and a pixel): programs round, but pixels of another size are another photo's."""
    x, y = max(1.0, 0.01 * width), max(1.0, 0.01 * height)
    if box[0] < -x or box[1] < -y or box[2] > width + x or box[3] > height + y:
        raise UserError(
            f"{where}: expected a box within its photo of {width:g} x {height:g} pixels, found x {box[0]:g} to "
            f"{box[2]:g}, y {box[1]:g} to {box[3]:g}. Give boxes in pixels of the upright photo in its full size."
        )


def check_fractions(box: Sequence[float], where: str) -> None:
    """Raises UserError, beginning with `where`, for a box x0, y0, x1, y1 that is not in fractions of its photo; a
    hundredth beyond is rounding."""
    if min(box) < -0.01 or max(box) > 1.01:
        raise UserError(f"{where}: expected a bbox in fractions from 0 to 1, found corners {list(box)}.")


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
