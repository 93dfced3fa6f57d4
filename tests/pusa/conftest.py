"""Pictures whose geometry is known."""

import cv2
import numpy as np
import pytest

from pusa import photos
from pusa.records import new_instance
from pusa.segmentation import masks


@pytest.fixture(scope="session")
def marks():
    return _marks


@pytest.fixture(scope="session")
def instance():
    return _instance


def _marks(seed: int, height: int = 200, width: int = 320) -> np.ndarray:
    """A picture (H, W, 3) uint8 of blots by chance: each seed another animal."""
    rng = np.random.default_rng(seed)
    grey = np.full((height, width), 90, np.uint8)
    for _ in range(120):
        x, y = (int(v) for v in rng.integers(0, (width, height)))
        cv2.ellipse(grey, (x, y), tuple(int(v) for v in rng.integers(3, 12, 2)), float(rng.uniform(0, 180)), 0, 360,
                    int(rng.integers(40, 220)), -1)  # fmt: skip
    return cv2.cvtColor(cv2.GaussianBlur(grey, (0, 0), 1), cv2.COLOR_GRAY2RGB)


def _instance(crop: np.ndarray, corner=(0, 0), scale: float = 1.0, mask: np.ndarray | None = None):
    """An instance whose crop box is `scale` times as large as its stored crop, at `corner` in its photo."""
    height, width = (round(length * scale) for length in crop.shape[:2])
    box = [corner[0], corner[1], corner[0] + width, corner[1] + height]
    rle = None
    if mask is not None:
        whole = np.zeros((box[3] + 10, box[2] + 10), bool)
        whole[box[1] : box[3], box[0] : box[2]] = cv2.resize(mask.astype(np.uint8), (width, height)) > 0
        rle = masks.encode(whole)
    return new_instance("p#0", crop=photos.encode_jpeg(crop, 95), crop_box=box, mask=rle)
