"""Masks from pictures: white on black, or a photo with everything black but the animal."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from pusa import photos, storage
from pusa.errors import PhotoError, UserError
from pusa.segmentation import masks

BLACK = 10  # grey levels; JPEG leaves a little light beside an edge


def from_cut_out(file: str) -> masks.Rle:
    """The animal of a photo that is black around it: the largest piece that is not black, its holes (a dark eye, a
    shadow) filled. Raises UserError where the picture cannot be read, or is black."""
    pieces, labels, stats, _ = cv2.connectedComponentsWithStats((_read(file) > BLACK).astype(np.uint8))
    if pieces < 2:
        raise UserError(f"The picture {file} is black: expected an animal on black. Leave the photo out.")
    return masks.encode(ndimage.binary_fill_holes(labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def from_mask(file: str) -> masks.Rle:
    """The pixels of a mask file that are not 0. Raises UserError where it cannot be read, or is black."""
    animal = _read(file) > 0
    if not animal.any():
        raise UserError(f"The mask {file} is empty: expected the animal's pixels above 0. Leave the mask out.")
    return masks.encode(animal)


def _read(file: str) -> np.ndarray:
    """The brightest channel of a picture, H x W uint8."""
    try:
        return photos.decode(storage.read_bytes(*storage.locate(file))).max(2)
    except (OSError, PhotoError) as e:
        raise UserError(f"The picture {file} cannot be read: {e}.") from e
