"""Measures of accuracy: numpy in, plain numbers out."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pusa.segmentation import masks
from pusa.segmentation.masks import Detections

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


def match(iou: NDArray[np.float64], threshold: float = 0.5) -> NDArray[np.bool_]:
    """Which detections are right. iou: (n detections, best score first; m true animals), 0..1.

    Greedy by score, as in COCO: each detection takes the free animal that it overlaps most, if by at least `threshold`.
    """
    free = np.ones(iou.shape[1], bool)
    right = np.zeros(iou.shape[0], bool)
    for i, row in enumerate(iou):
        row = np.where(free, row, -1)
        if row.size and row.max() >= threshold:
            free[row.argmax()] = False
            right[i] = True
    return right


def precision_recall_f1(right: int, found: int, animals: int) -> tuple[float, float, float]:
    """Precision, recall and F1 = 2PR / (P + R) from counts; an empty denominator gives 0."""
    precision, recall = right / max(found, 1), right / max(animals, 1)
    return precision, recall, 2 * right / max(found + animals, 1)


def box_iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Intersection over union of every pair of boxes x0, y0, x1, y1: (n, 4) and (m, 4) to (n, m), 0..1."""
    a, b = np.asarray(first, float).reshape(-1, 1, 4), np.asarray(second, float).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    return common / np.maximum(union, 1e-12)


def detection_metrics(
    found: Sequence[Detections], truth: Sequence[Detections], score_threshold: float
) -> dict[str, float]:
    """Accuracy of a detector, for "mask" and "box": the keys below are prefixed by these words.

    found: detections of each photo, down to low scores; truth: the true animals of the same photos (scores not read).
    - map, map50: COCO mean average precision over IoU .50:.95 and at .50, over all scores
    - ar1: COCO average recall, IoU .50:.95, with one detection a photo
    - precision, recall, f1: at `score_threshold` and IoU .5; f1_mean: F1 averaged over IoU .50:.95
    - f1_ap_ar: 2 map ar1 / (map + ar1), the measure that fits Table 1 of the paper
    """
    if len(found) != len(truth):
        raise ValueError(f"detections of {len(found)} photos, truth of {len(truth)}")
    animals = sum(map(len, truth))
    kept = [d.above(score_threshold) for d in found]
    overlaps = {
        "mask": [masks.iou(d.masks, t.masks) for d, t in zip(kept, truth, strict=True)],
        "box": [box_iou(d.boxes, t.boxes) for d, t in zip(kept, truth, strict=True)],
    }
    result: dict[str, float] = {"photos": len(truth), "animals": animals, "found": sum(map(len, kept))}
    for kind, matrices in overlaps.items():
        right = [sum(int(match(m, t).sum()) for m in matrices) for t in IOU_THRESHOLDS]
        scores = [precision_recall_f1(r, sum(map(len, kept)), animals) for r in right]
        average, average50, ar1 = _coco(found, truth, "segm" if kind == "mask" else "bbox")
        values = {
            "map": average,
            "map50": average50,
            "ar1": ar1,
            "precision": scores[0][0],
            "recall": scores[0][1],
            "f1": scores[0][2],
            "f1_mean": float(np.mean([s[2] for s in scores])),
            "f1_ap_ar": 2 * average * ar1 / max(average + ar1, 1e-12),
        }
        result |= {f"{kind}_{name}": value for name, value in values.items()}
    return result


def _coco(found: Sequence[Detections], truth: Sequence[Detections], kind: str) -> tuple[float, float, float]:
    """AP .50:.95, AP .50 and AR with one detection, by pycocotools; 0 where there are no animals."""

    def rows(photos: Sequence[Detections]) -> list[dict]:
        flat = [(i, *row) for i, d in enumerate(photos) for row in zip(d.boxes, d.scores, d.masks, strict=True)]
        return [
            {
                "id": n,
                "image_id": i,
                "category_id": 1,
                "bbox": [float(b[0]), float(b[1]), float(b[2] - b[0]), float(b[3] - b[1])],
                "score": float(score),
                "segmentation": mask,
                "area": float(masks.area(mask)) if kind == "segm" else float((b[2] - b[0]) * (b[3] - b[1])),
                "iscrowd": 0,
            }
            for n, (i, b, score, mask) in enumerate(flat, 1)  # an id of 0 would count as "no match" in COCOeval
        ]

    predictions = rows(found)
    if not predictions or not any(map(len, truth)):
        return 0.0, 0.0, 0.0
    sizes = [next((m["size"] for m in (*t.masks, *d.masks)), (1, 1)) for d, t in zip(found, truth, strict=True)]
    images = [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(sizes)]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress and tables
        sides = []
        for annotations in (rows(truth), predictions):
            coco = COCO()
            coco.dataset = {"images": images, "categories": [{"id": 1}]}
            coco.dataset["annotations"] = annotations
            coco.createIndex()
            sides.append(coco)
        evaluation = COCOeval(*sides, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1]), float(evaluation.stats[6])
