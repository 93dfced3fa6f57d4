"""How many animals do the encounters show? Clusters alone overstate it: an encounter that resembles no other is often
a known animal that nobody could recognise.

So partitions are drawn by their probability (Gibbs sampling), and the animals in each counted. Beforehand each
encounter is equally probably any of K animals, and every K from the fewest possible on is equally probable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from pusa.catalogue.evidence import Evidence

MOST = 20  # times as many animals as encounters there may be at most
SWEEPS, FIRST = 200, 50  # over all encounters, the first of which are not counted


@dataclass(frozen=True)
class Count:
    """Animals seen: mean, and limits of the middle 90 % of the draws; `alone` (N,): how often each encounter was one
    of its own."""

    mean: float
    low: float
    high: float
    alone: np.ndarray


def count(evidence: Evidence, labels: Sequence[int], seed: int = 0, sweeps: int = SWEEPS, first: int = FIRST) -> Count:
    """Draws partitions, beginning with `labels` (N,)."""
    rng = np.random.default_rng(seed)
    n = evidence.size
    label = [int(x) for x in np.unique(labels, return_inverse=True)[1]]
    size = np.bincount(label, minlength=n + 1).tolist()  # one label is always free
    free = [name for name in range(n + 1) if not size[name]]
    occupied = n + 1 - len(free)
    animals = float(occupied + 1)
    counts, alone = [], np.zeros(n)
    for sweep in range(sweeps):
        for i in rng.permutation(n).tolist():
            size[label[i]] -= 1
            if not size[label[i]]:
                free.append(label[i])
                occupied -= 1
            label[i] = -1
            name = _draw(evidence, i, label, size, occupied, animals, rng)
            if name < 0:
                name = free.pop()
                occupied += 1
            label[i] = name
            size[name] += 1
        animals = _animals(occupied, n, rng)
        if sweep >= first:
            counts.append(occupied)
            alone += [size[name] == 1 for name in label]
    low, high = np.quantile(counts, [0.05, 0.95])
    return Count(float(np.mean(counts)), float(low), float(high), alone / len(counts))


def _draw(
    evidence: Evidence,
    i: int,
    label: list[int],
    size: list[int],
    occupied: int,
    animals: float,
    rng: np.random.Generator,
) -> int:
    """A cluster for an encounter that is in none, -1 for one of its own."""
    towards: dict[int, float] = {}
    for j, w in evidence.weights[i].items():
        towards[label[j]] = towards.get(label[j], 0.0) + w
    barred = {label[j] for j in evidence.apart[i]}
    for name in barred:
        towards.pop(name, None)
    names = list(towards)
    # Clusters without a pair weigh exp(0) each; they need not be listed, unless one of them is drawn.
    others = occupied - len(names) - len(barred)
    logs = np.array(
        [*towards.values(), math.log(max(animals - occupied, 1e-9)), math.log(others) if others > 0 else -np.inf]
    )
    shares = np.exp(logs - logs.max())
    drawn = int(rng.choice(len(shares), p=shares / shares.sum()))
    if drawn < len(names):
        return names[drawn]
    if drawn == len(names):
        return -1
    listed = towards.keys() | barred
    rest = [name for name, s in enumerate(size) if s and name not in listed]
    return rest[int(rng.integers(len(rest)))]


def _animals(occupied: int, n: int, rng: np.random.Generator) -> float:
    """A number of animals, of which n encounters showed so many."""
    k = np.unique(np.round(np.geomspace(occupied, MOST * n, 400)))
    logs = gammaln(k + 1) - gammaln(k - occupied + 1) - n * np.log(k) + np.log(np.gradient(k) if len(k) > 1 else [1.0])
    shares = np.exp(logs - logs.max())
    return float(rng.choice(k, p=shares / shares.sum()))
