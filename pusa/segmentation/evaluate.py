"""Accuracy of a detector on photos with true masks, and the photos where it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pusa import metrics
from pusa.segmentation import masks
from pusa.segmentation.data import LabelledPhoto
from pusa.segmentation.engine import Detectron2Segmenter
from pusa.segmentation.masks import Detections
from pusa.segmentation.segmenter import Segmenter

LOWEST = 0.05  # score from which on detections count for the mAP, which knows no threshold
GREEN, RED, WHITE = (60, 200, 90), (235, 60, 50), (255, 255, 255)


@dataclass(frozen=True)
class Judged:
    """What a detector found in a photo at its threshold: `right` of its detections, in their order; `missed`: the
    number of true animals that none of them covers by half."""

    photo: LabelledPhoto
    found: Detections
    right: NDArray[np.bool_]
    missed: int

    @property
    def wrong(self) -> int:
        """Animals missed and detections that are none."""
        return self.missed + int((~self.right).sum())


def evaluate(
    segmenter: Segmenter | Detectron2Segmenter,
    labelled: Sequence[LabelledPhoto],
    watch: Callable[[Sequence[LabelledPhoto]], Iterable[LabelledPhoto]] = iter,
) -> tuple[dict[str, float], list[Judged]]:
    """The figures of `metrics.detection_metrics` at the segmenter's own threshold, and every photo, worst first.

    `watch` shows the progress. Raises UserError for a photo that cannot be read.
    """
    threshold = segmenter.config.score_threshold
    found, truth, judged = [], [], []
    for photo in watch(labelled):
        found.append(segmenter.segment([photo.read()], min(LOWEST, threshold))[0])
        truth.append(photo.truth())
        kept = found[-1].above(threshold)
        right = metrics.match(masks.iou(kept.masks, truth[-1].masks))
        judged.append(Judged(photo, kept, right, len(truth[-1]) - int(right.sum())))
    judged.sort(key=lambda j: (-j.wrong, j.photo.path))
    return metrics.detection_metrics(found, truth, threshold), judged


def draw(judged: Judged, longer_side: int = 900) -> NDArray[np.uint8]:
    """The photo, (h, w, 3) RGB: true animals outlined in white, right detections in green, wrong ones in red."""
    rgb = judged.photo.read()
    scale = min(longer_side / max(rgb.shape[:2]), 1)
    size = max(round(rgb.shape[1] * scale), 1), max(round(rgb.shape[0] * scale), 1)
    picture = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    layers = [(mask, WHITE, 4) for mask in judged.photo.masks]
    colours = [GREEN if right else RED for right in judged.right]
    layers += [(mask, colour, 2) for mask, colour in zip(judged.found.masks, colours, strict=True)]
    for mask, colour, width in layers:
        small = cv2.resize(masks.decode(mask).astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) >= 128
        outlines, _ = cv2.findContours(small.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, colour, width, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)
