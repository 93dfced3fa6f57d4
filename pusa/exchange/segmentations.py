"""Masks as they stand in the files of others: polygons, runs, or compressed runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pusa.errors import UserError
from pusa.segmentation import masks


def checked(segmentation: Any, size: Mapping[str, Any], where: str) -> masks.Rle:
    """The mask as compressed RLE of the photo; checked, for pycocotools reads stray memory where pixels are missing.

    `segmentation`: polygons, runs or compressed runs, as COCO has them. `size`: `height` and `width` of the photo in
    pixels; polygons need them. Raises UserError, beginning with `where`, for what is no mask of that photo.
    """
    try:
        if isinstance(segmentation, dict):
            height, width = (
                int(size.get(key) or n) for key, n in zip(("height", "width"), segmentation["size"], strict=True)
            )
        else:
            height, width = int(size["height"]), int(size["width"])
            points = np.concatenate([np.reshape(part, (-1, 2)) for part in segmentation]).astype(float)
            if not (np.abs(points) <= (2 * width, 2 * height)).all():
                raise UserError("a polygon lies far outside of its photo")
        mask = masks.from_coco(segmentation, height, width)
        lengths = runs(mask["counts"])
        if lengths.min(initial=0) < 0 or lengths.sum() != height * width:
            raise UserError(f"the mask has {lengths.sum()} pixels, its photo {width} x {height}")
        if lengths[1::2].sum() == 0:
            raise UserError("the mask is empty")
    except KeyError as e:
        raise UserError(f"{where}: {e} of its image or its mask is missing.") from e
    except (UserError, ValueError, TypeError, OverflowError, AttributeError) as e:
        raise UserError(f"{where}: {e}.") from e
    return mask


def runs(counts: str) -> np.ndarray:
    """The lengths of the runs in the text of a compressed RLE: int64; negative ones mean that the text is damaged.

    A number is a row of characters of 5 bits, low bits first, each + 48; 32 says that more follow, 16 in the last one
    that it is negative. From the fourth on, numbers are differences to the last but one (cocoapi, maskApi.c).
    """
    codes = np.frombuffer(counts.encode(), np.uint8).astype(np.int64) - 48
    last = (codes & 32) == 0
    if not codes.size or codes.min() < 0 or codes.max() > 63 or not last[-1]:
        raise UserError("the text of the mask is damaged")
    starts = np.flatnonzero(np.append(True, last[:-1]))
    lengths = np.diff(np.append(starts, codes.size))
    if lengths.max() > 7:
        raise UserError("the text of the mask is damaged")
    shifts = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((codes & 31) << shifts, starts)
    numbers -= np.where(codes[last] & 16, 1 << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
