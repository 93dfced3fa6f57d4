"""How many animals do the encounters show? Clusters alone overstate it: an encounter that resembles no other is often
a known animal that nobody could recognise.

So encounters that resemble no other are not taken for as many animals. How many animals were really seen once follows
from how often the others were seen: their numbers of encounters are fitted by a Poisson distribution, of which 0 and
1 are cut off, since ones are inflated (Godwin and Boehning 2017). Where some animals come far more rarely than others
this finds too few.

An animal whose left flank is in one cluster and whose right flank is in another is counted twice, and nothing tells
how often that is so. Of one flank alone every animal is counted once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

DRAWS = 500  # of the clusters, for the interval


@dataclass(frozen=True)
class Count:
    """Animals seen `again`, encounters that are `alone`, of which so many, `once`, are animals seen once; 95 %
    interval of the `animals`: clusters are drawn anew."""

    again: int
    alone: int
    once: float
    low: float
    high: float

    @property
    def animals(self) -> float:
        """How many animals the encounters show."""
        return self.again + self.once


def count(sizes: Sequence[int], seed: int = 0) -> Count:
    """From the number of encounters of each cluster, 1 or more."""
    s, rng = np.array(sizes, int), np.random.default_rng(seed)
    drawn = [sum(_animals(rng.choice(s, len(s)))) for _ in range(DRAWS)] if len(s) else [0.0]
    low, high = np.quantile(drawn, [0.025, 0.975])
    again, once = _animals(s)
    return Count(int(again), int((s == 1).sum()), once, float(low), float(high))


def by_flank(labels: Sequence[int], shown: np.ndarray) -> tuple[Count, Count]:
    """How many animals the encounters show from the left, and from the right: from the cluster of each, and which
    flank it shows, (N, 2) bool."""
    sizes = (Counter(np.asarray(labels)[flank].tolist()) for flank in shown.T)
    left, right = (count(list(each.values())) for each in sizes)
    return left, right


def _animals(sizes: np.ndarray) -> tuple[float, float]:
    """Animals seen more than once, and once, at most as many as there are encounters alone."""
    again, alone = sizes[sizes > 1], float((sizes == 1).sum())
    if not len(again):
        return 0.0, alone
    return float(len(again)), min(alone, len(again) * seen_once(float(again.mean())))


def seen_once(mean: float) -> float:
    """How many animals are seen once for each that is seen more than once, if these have so many encounters on average:
    P(1) / P(2 and more) of the Poisson distribution whose mean without 0 and 1 is `mean`; infinite for 2."""
    if mean <= 2 + 1e-6:
        return np.inf

    def excess(rate: float) -> float:
        return rate * -np.expm1(-rate) - mean * (-np.expm1(-rate) - rate * np.exp(-rate))

    rate = float(brentq(excess, 1e-3, mean)) if excess(1e-3) < 0 < excess(mean) else 1e-3
    return float(rate * np.exp(-rate) / (-np.expm1(-rate) - rate * np.exp(-rate)))
