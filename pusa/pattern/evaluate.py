"""How well found patterns agree with true rings: lines within a tolerance, since a line may be drawn a pixel beside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from skimage.morphology import skeletonize

from pusa import photos as photo_files
from pusa.pattern import extract, patches
from pusa.pattern.data import Example
from pusa.pattern.extract import PatternConfig, PatternExtractor
from pusa.pattern.quality import GOOD_F1, Quality, balanced_accuracy, fit, signs_of

TOLERANCE = 2  # px of the network's input, of the F1 of lines
CLEAR = 0.5  # ring_clarity of a synthetic truth from which a person sees the rings
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)  # of the probability, that `calibrate` chooses from


def line_counts(found: np.ndarray, truth: np.ndarray, tolerance: int = TOLERANCE) -> np.ndarray:
    """Pixels of two masks (H, W) bool, as (10,) numbers.

    Of both, of either, found, found near the truth, true, true near the found; of the skeleton of the found, of that
    inside the truth, of the skeleton of the truth, of that inside the found.
    """

    def near(mask: np.ndarray) -> np.ndarray:
        distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return distance <= tolerance if mask.any() else mask

    thin, thin_true = skeletonize(found), skeletonize(truth)
    return np.array(
        [(found & truth).sum(), (found | truth).sum(), found.sum(), (found & near(truth)).sum(),
         truth.sum(), (truth & near(found)).sum(),
         thin.sum(), (thin & truth).sum(), thin_true.sum(), (thin_true & found).sum()]
    )  # fmt: skip


def scores(counts: np.ndarray) -> dict[str, float]:
    """IoU; precision, recall, F1 with tolerance; centreline Dice (Shit 2021); of summed `line_counts`; all 0 to 1."""
    both, either, found, found_near, true, true_near, thin, thin_in, thin_true, thin_true_in = map(float, counts)
    precision, recall = found_near / max(found, 1), true_near / max(true, 1)
    centre_precision, centre_recall = thin_in / max(thin, 1), thin_true_in / max(thin_true, 1)
    return {
        "iou": both / max(either, 1),
        "precision": precision,
        "recall": recall,
        "f1": harmonic(precision, recall),
        "cldice": harmonic(centre_precision, centre_recall),
    }


def harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / max(precision + recall, 1e-9)


@dataclass(frozen=True)
class Examined:
    """Patterns of n crops beside the truth: `counts` (n, 10) as in `line_counts`, `signs` (n, 10) of quality."""

    counts: np.ndarray
    signs: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """F1 of each crop, (n,); of a crop without a true ring 1 if nothing was found, else 0."""
        blank = self.counts[:, 4] == 0
        return np.where(blank, self.counts[:, 2] == 0, [scores(c)["f1"] for c in self.counts])


def unet_maps(extractor: PatternExtractor, examples: Sequence[Example]) -> Iterator[np.ndarray]:
    """How line-like each pixel of each example is, 0..1, as the U-Net says; a few in memory at once."""
    for start in range(0, len(examples), 64):
        yield from extractor.probabilities([e.network_input(extractor.config) for e in examples[start : start + 64]])


def examine(maps: Iterable[np.ndarray], examples: Sequence[Example], config: PatternConfig) -> Examined:
    """Makes a pattern of each example's map, as the pipeline does, and holds it against the truth."""
    counts, signs = [], []
    for example, found in zip(examples, maps, strict=True):
        pattern = extract.binary_mask(found, example.mask, config)
        counts.append(line_counts(pattern, example.rings))
        signs.append(signs_of(example.grey, example.mask, found, pattern, example.side))
    return Examined(np.array(counts).reshape(-1, 10), np.array(signs).reshape(-1, 10))


def calibrate(extractor: PatternExtractor, examples: Sequence[Example]) -> tuple[float, Quality]:
    """The threshold of a network and the judge of its patterns, fitted to crops that it did not learn from.

    The threshold is the one of THRESHOLDS with the best F1 of lines. Usable is a pattern with an F1 of at least
    GOOD_F1. Raises ValueError where all patterns are usable, or none is.
    """
    maps = [m.astype(np.float16) for m in unet_maps(extractor, examples)]
    settings = [extractor.config.model_copy(update={"threshold": t}) for t in THRESHOLDS]
    counts = [
        sum(line_counts(extract.binary_mask(m, e.mask, c), e.rings) for m, e in zip(maps, examples, strict=True))
        for c in settings
    ]
    best = max(range(len(settings)), key=lambda k: scores(np.asarray(counts[k]))["f1"])
    examined = examine(maps, examples, settings[best])
    usable = examined.f1 >= GOOD_F1
    if usable.all() or not usable.any():
        raise ValueError(f"{int(usable.sum())} of {len(usable)} patterns are usable: both kinds are needed")
    return THRESHOLDS[best], fit(examined.signs, usable)


def filtering(quality: Quality, examined: Examined, examples: Sequence[Example]) -> dict[str, float]:
    """How well patterns are judged.

    usable: share that is, by the truth; chosen: share that is let through; precision and balanced_accuracy of that;
    groups: of the encounters (an animal in a sequence) with rings that a person sees (clarity of at least CLEAR in some
    crop), the share with at least one pattern let through.
    """
    usable = examined.f1 >= GOOD_F1
    chosen = np.array([quality.judge(signs)[1] is None for signs in examined.signs])
    clear: dict[tuple[str, str], bool] = {}
    kept: dict[tuple[str, str], bool] = {}
    for example, let in zip(examples, chosen, strict=True):
        if "identity" in example.about:
            group = (example.about["sequence_id"], example.about["identity"])
            clear[group] = clear.get(group, False) or example.about.get("ring_clarity", 0) >= CLEAR
            kept[group] = kept.get(group, False) or bool(let)
    seen = [group for group, is_clear in clear.items() if is_clear]
    return {
        "crops": len(usable),
        "usable": float(usable.mean()),
        "chosen": float(chosen.mean()),
        "precision": float(usable[chosen].mean()) if chosen.any() else 0.0,
        "balanced_accuracy": balanced_accuracy(chosen, usable),
        "groups": float(np.mean([kept[g] for g in seen])) if seen else float("nan"),
    }


def measure(extractor: PatternExtractor, examples: Sequence[Example]) -> dict[str, float]:
    """`scores` of an extractor over the pixels of all examples, at the scale of the network's input."""
    return scores(examine(unet_maps(extractor, examples), examples, extractor.config).counts.sum(axis=0))


def true_rings(crop_box: Sequence[int], rings: Path, corner: tuple[int, int]) -> np.ndarray:
    """The true rings on the pixels of a crop box, (h, w) bool; corner: x, y of the file's upper left pixel."""
    x0, y0, x1, y1 = (int(v) for v in crop_box)
    true = photo_files.decode_mask_png(rings.read_bytes())
    there = np.zeros((y1 - y0, x1 - x0), bool)
    # The true mask's box and the crop's overlap, but neither holds the other.
    left, top = max(corner[0], x0), max(corner[1], y0)
    right, bottom = min(corner[0] + true.shape[1], x1), min(corner[1] + true.shape[0], y1)
    there[top - y0 : bottom - y0, left - x0 : right - x0] = true[
        top - corner[1] : bottom - corner[1], left - corner[0] : right - corner[0]
    ]
    return there


def instance_counts(instance: dict[str, Any], rings: Path, corner: tuple[int, int], side: int = 512) -> np.ndarray:
    """`line_counts` of an instance's stored pattern against the ring mask of a file.

    At the scale of the network's input (longer side `side`), so that the tolerance means the same near and far.

    instance: crop_box and pattern (PNG; None: nothing found). corner: x, y of the mask's upper left pixel in the photo.
    """
    there = true_rings(instance["crop_box"], rings, corner)
    found = np.zeros_like(there) if instance["pattern"] is None else photo_files.decode_mask_png(instance["pattern"])
    factor = side / max(there.shape)
    size = (max(1, round(there.shape[1] * factor)), max(1, round(there.shape[0] * factor)))
    return line_counts(patches.resize(found, size), patches.resize(there, size))
