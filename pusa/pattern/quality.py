"""Whether a pattern that was extracted can be trusted (paper, section "Pattern extraction": the filtering step).

A logistic regression on a few signs of quality that can be named: so the answer is a probability, and a pattern that is
turned down has a reason. It is fitted with the network that it judges and stored in the same file of weights.
"""

from __future__ import annotations

import cv2
import numpy as np
from skimage.morphology import skeletonize
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pusa.config import Config

# Sign of quality -> what is wrong where it is low. Each grows with quality: a fit that turns one round drops it.
SIGNS = {
    "size": "too small",  # log of the mean side of the animal in the photo, px
    "contrast": "no contrast",  # grey levels of the pattern above the fur beside it
    "clarity": "no contrast",  # that over the standard deviation of both
    "calm": "too noisy",  # minus the log of the finest detail against all variation
    "confidence": "no contrast",  # mean probability of the pattern's pixels
    "decision": "no contrast",  # share of the animal where the network is sure, either way
    "fraction": "pattern too sparse",  # log of pattern / animal
    "evenness": "not line-like",  # minus the variation of line thickness
    "order": "not line-like",  # minus the log of the length of all lines, in sides of the animal: scribble is long
    "wholeness": "occluded",  # area of the mask in its convex hull
}
GOOD_F1 = 0.7  # F1 of lines (2 px) from which a pattern counts as usable, where the truth is known


class Quality(Config):
    """The fitted regression: usable with probability 1 / (1 + exp(-(bias + weights . (signs - mean) / scale)))."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    threshold: float  # of the probability

    def judge(self, signs: np.ndarray, threshold: float | None = None) -> tuple[float, str | None]:
        """The probability (0..1) that a pattern with these `signs` (10,) is usable, and what speaks most against it;
        None where the probability is `threshold` or more (None: the fitted one).
        """
        share = np.array(self.weights) * (signs - self.mean) / self.scale
        probability = float(1 / (1 + np.exp(-np.clip(self.bias + share.sum(), -50, 50))))
        if probability >= (self.threshold if threshold is None else threshold):
            return probability, None
        reasons = list(SIGNS.values())
        against = {reason: sum(s for s, r in zip(share, reasons, strict=True) if r == reason) for reason in reasons}
        return probability, min(against, key=lambda reason: against[reason])


def signs_of(
    grey: np.ndarray, mask: np.ndarray, probability: np.ndarray, pattern: np.ndarray, side: float
) -> np.ndarray:
    """The SIGNS (10,) of one pattern. side: longer side of the crop box in the photo, px.

    grey: (h, w) uint8, the crop before tone mapping; mask, pattern: bool; probability: float in [0, 1]; all at the
    scale of the network's input.
    """
    area, lines = max(int(mask.sum()), 1), max(int(pattern.sum()), 1)
    near = cv2.dilate(pattern.view(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & mask & ~pattern
    light, dark = grey[pattern].astype(float), grey[near].astype(float)
    difference = float(light.mean() - dark.mean()) if light.size and dark.size else 0.0
    spread = float(np.sqrt((light.var() + dark.var()) / 2)) if light.size and dark.size else 1.0
    inner = cv2.erode(mask.view(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    fine = cv2.Laplacian(grey, cv2.CV_32F)[inner]
    skeleton = skeletonize(pattern)
    framed = np.pad(pattern, 1).view(np.uint8)  # without a black pixel there is no distance
    width = 2 * cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1][skeleton]
    hull = cv2.convexHull(cv2.findNonZero(mask.view(np.uint8))) if mask.any() else None
    return np.array(
        [
            np.log(side * np.sqrt(area / mask.size)),
            difference,
            difference / (spread + 1),
            -np.log((fine.var() + 1) / (grey[inner].var() + 1)) if fine.size else 0.0,
            float(probability[pattern].mean()) if pattern.any() else 0.0,
            float((np.abs(probability[mask] - 0.5) > 0.3).mean()) if mask.any() else 0.0,
            np.log(lines / area),
            -float(width.std() / width.mean()) if width.size else -1.0,
            -np.log(max(int(skeleton.sum()), 1) / np.sqrt(area)),
            area / max(cv2.contourArea(hull), 1.0) if hull is not None else 0.0,
        ]
    )


def fit(signs: np.ndarray, usable: np.ndarray, precision: float = 0.85) -> Quality:
    """Fits the regression to signs (n, 10) and the truth (n,) bool, and chooses the threshold.

    No weight is negative, or a reason would say the contrary of what was seen: signs that would get one are dropped,
    the worst first. The threshold has the best balanced accuracy among those with a precision of at least `precision`.
    """
    scaler = StandardScaler().fit(signs)
    x = scaler.transform(signs)
    kept = np.arange(len(SIGNS))
    model = LogisticRegression(max_iter=1000).fit(x, usable)
    while len(kept) > 1 and model.coef_[0].min() < 0:
        kept = np.delete(kept, model.coef_[0].argmin())
        model = LogisticRegression(max_iter=1000).fit(x[:, kept], usable)
    weights = np.zeros(len(SIGNS))
    weights[kept] = model.coef_[0]
    found = model.predict_proba(x[:, kept])[:, 1]
    best = (-1.0, 0.5)
    for threshold in np.linspace(0.1, 0.9, 81):
        chosen = found >= threshold
        if chosen.any() and usable[chosen].mean() >= precision:
            best = max(best, (balanced_accuracy(chosen, usable), float(threshold)))
    return Quality(
        mean=tuple(map(float, scaler.mean_)),
        scale=tuple(map(float, scaler.scale_)),
        weights=tuple(map(float, weights)),
        bias=float(model.intercept_[0]),
        threshold=best[1],
    )


def balanced_accuracy(chosen: np.ndarray, usable: np.ndarray) -> float:
    """Mean of the shares of usable and of unusable patterns that are told right, 0..1."""
    return float((chosen[usable].mean() if usable.any() else 1.0) + (~chosen[~usable]).mean()) / 2
