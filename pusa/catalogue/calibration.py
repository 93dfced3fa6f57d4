"""How much likelier are the signs of a pair if its two encounters show one animal than if they show two?

Not every pair of one animal can be recognised: it may show other marks, or too few. So among pairs of one animal
the signs of a share r are like those of any two animals, and the others' are likelier with every sign:

    ratio = (1 - r) + r exp(a . signs + b)

(a mixture, whose weights are all fitted at once to pairs that are known, by largest likelihood). Its logarithm is what
a pair weighs; it is never below log(1 - r), since to find nothing in common says little. How frequent pairs of one
animal are is no part of it: that differs from archive to archive.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from pusa.catalogue.pairs import SIGNS
from pusa.config import Config, Fitted
from pusa.errors import UserError

RIDGE = 0.05  # of the squared weights: keeps them finite where a sign divides perfectly
FEWEST = 20  # pairs of one animal to be fitted


class PairCalibration(Config):
    """Weights of the signs, `offset`, and the log of the share that cannot be recognised."""

    prominence: float
    inliers: float
    nearness: float
    offset: float
    floor: float
    source: str = ""  # what it was fitted on

    def weights(self, signs: np.ndarray) -> np.ndarray:
        """Logarithm of the ratio (P,) of pairs with SIGNS (P, 3)."""
        a = np.array([getattr(self, name) for name in SIGNS])
        return np.logaddexp(self.floor, signs.astype(float) @ a + self.offset)

    @classmethod
    def fit(cls, signs: np.ndarray, same: np.ndarray, source: str = "") -> PairCalibration:
        """From pairs (P, 3) of which it is known whether they show the `same` animal (P,) bool. Raises UserError where
        these are too few."""
        if same.sum() < FEWEST or same.all():
            raise UserError(
                f"Expected at least {FEWEST} pairs of encounters of one animal and some of two to fit "
                f"probabilities to, got {int(same.sum())} of {len(same)}. Leave the calibration as it is."
            )
        used = signs.any(axis=0)  # a sign that was never measured is no sign
        x = signs[:, used].astype(float)

        def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
            rises = x @ w[2:] + w[1]
            odds = np.logaddexp(w[0], rises)
            excess = 1 / (1 + np.exp(-odds)) - same  # gradient of the loss by the odds
            share = np.exp(rises - odds)
            by_rises = excess * share
            gradient = np.concatenate([[(excess * (1 - share)).sum(), by_rises.sum()], by_rises @ x])
            gradient[2:] += 2 * RIDGE * w[2:]
            value = np.logaddexp(0, np.where(same, -odds, odds)).sum() + RIDGE * w[2:] @ w[2:]
            return float(value), gradient

        frequent = float(np.log(same.mean() / (1 - same.mean())))
        start = np.concatenate([[frequent - 0.7, frequent - 2], np.ones(used.sum())])
        bounds = [(None, None)] * 2 + [(0, None)] * int(used.sum())  # no sign speaks against a pair
        w = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000}).x
        a = np.zeros(len(SIGNS))
        a[used] = w[2:]
        # The odds of a pair are the ratio times how frequent pairs of one animal were.
        return cls(**dict(zip(SIGNS, a.tolist(), strict=True)), offset=float(w[1]) - frequent,
                   floor=min(float(w[0]) - frequent, 0.0), source=source)  # fmt: skip


class Calibrations(Fitted):
    """Of pairs whose points were compared, and of those that only have a distance."""

    FILE = "pairs.json"
    COMMAND = "pusa catalogue calibrate"

    verified: PairCalibration
    distances: PairCalibration


def frequency(weights: np.ndarray, total: int, start: float = 0.01, steps: int = 200) -> float:
    """Share of all `total` pairs that show one animal, by the pairs that were compared, (P,) of that `weights`: the
    prior of largest likelihood (EM, Saerens 2002)."""
    share, ratio = start, np.exp(np.minimum(weights, 50))
    for _ in range(steps):
        share = float((share * ratio / (share * ratio + 1 - share)).sum()) / total
        share = min(max(share, 1e-9), 1 - 1e-9)
    return share
