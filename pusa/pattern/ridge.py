"""The baseline beside the U-Net: a ridge filter and a threshold, as in the work before it (Sato et al. 1998).

It has the same two steps as the network (a map of how line-like each pixel is, then `extract.binary_mask`), so both are
measured alike. `tuned` chooses its scales and threshold on training crops, as the network is fitted on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from skimage.filters import sato

from pusa.pattern import extract
from pusa.pattern.data import Example
from pusa.pattern.evaluate import line_counts, scores
from pusa.pattern.extract import PatternConfig

SIGMAS = ((1.0, 1.5), (1.5, 2.0), (2.0, 3.0), (3.0, 4.0))  # px of the network's input
THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
FULL = 0.06  # ridge strength (grey 0..1) that counts as 1


def ridges(grey: np.ndarray, mask: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
    """How much a pixel lies on a light line: (h, w) float32 in [0, 1], of a network input (h, w) uint8 and its mask."""
    inside = mask.astype(np.float32)
    # The outline is no ridge: outside, the picture goes on with the mean of what is near.
    wide = (31, 31)
    around = cv2.blur(grey * inside, wide) / np.maximum(cv2.blur(inside, wide), 1e-3)
    filled = np.where(mask, grey, around).astype(np.float32) / 255
    return np.clip(sato(filled, sigmas, black_ridges=False) / FULL, 0, 1).astype(np.float32) * inside


def ridge_maps(examples: Sequence[Example], config: PatternConfig, sigmas: Sequence[float]) -> Iterator[np.ndarray]:
    """`ridges` of each example: the filter in the network's place."""
    return (ridges(e.network_input(config), e.mask, sigmas) for e in examples)


def tuned(examples: Sequence[Example], config: PatternConfig) -> tuple[tuple[float, float], PatternConfig]:
    """The scales, and `config` with the threshold, that give the best F1 of lines over training crops."""
    best, choice = -1.0, (SIGMAS[0], config)
    for sigmas in SIGMAS:
        maps = list(ridge_maps(examples, config, sigmas))
        for threshold in THRESHOLDS:
            judged = config.model_copy(update={"threshold": threshold})
            found = (extract.binary_mask(m, e.mask, judged) for m, e in zip(maps, examples, strict=True))
            total = sum((line_counts(f, e.rings) for f, e in zip(found, examples, strict=True)), start=np.zeros(10))
            if scores(total)["f1"] > best:
                best, choice = scores(total)["f1"], (sigmas, judged)
    return choice
