"""Re-identification measured on photographs of one animal each: by photo, and by sighting.

The two flanks of an animal are different patterns, so only photos of the same side are compared. A photo never competes
with the photos of its own sighting, which would be too easy. An individual that no other sighting shows on that side
cannot be found: such queries are left out, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TopN:
    """Ranks of the true individual, 1 = first, one per query; `dropped` queries had no true match to find."""

    ranks: np.ndarray
    dropped: int

    def share(self, n: int) -> float:
        """Share of queries whose true individual is among the first n, 0 to 1."""
        return float(np.mean(self.ranks <= n)) if len(self.ranks) else float("nan")

    def interval(self, n: int, seed: int = 0, samples: int = 2000) -> tuple[float, float]:
        """95 % bootstrap interval of `share(n)` over queries."""
        hits = self.ranks <= n
        draws = np.random.default_rng(seed).choice(hits, (samples, len(hits)))
        low, high = np.percentile(draws.mean(1), [2.5, 97.5])
        return float(low), float(high)


def _rank(scores: dict[str, float], true: str) -> int:
    """Rank of `true` among individuals by falling score; ties count against it."""
    return 1 + sum(score >= scores[true] for name, score in scores.items() if name != true)


def by_photo(similarity: np.ndarray, individual: np.ndarray, side: np.ndarray, sighting: np.ndarray) -> TopN:
    """Each photo against all of its side from other sightings; an individual scores by its best photo.

    `similarity` is n x n, larger is more alike; -inf for a photo that has no vector. The other arrays are n texts.
    """
    ranks, dropped = [], 0
    for q in range(len(individual)):
        others = np.flatnonzero((side == side[q]) & (sighting != sighting[q]))
        scores: dict[str, float] = {}
        for j in others:
            scores[individual[j]] = max(scores.get(individual[j], -np.inf), float(similarity[q, j]))
        if individual[q] in scores:
            ranks.append(_rank(scores, individual[q]))
        else:
            dropped += 1
    return TopN(np.array(ranks, int), dropped)


def by_sighting(similarity: np.ndarray, individual: np.ndarray, side: np.ndarray, sighting: np.ndarray) -> TopN:
    """Each sighting (its photos of all sides) against all others: per side the best pair, then the mean over the sides
    that the individual offers."""
    ranks, dropped = [], 0
    for s in np.unique(sighting):
        mine = np.flatnonzero(sighting == s)
        best: dict[str, dict[str, float]] = {}
        for q in mine:
            for j in np.flatnonzero((side == side[q]) & (sighting != s)):
                sides = best.setdefault(individual[j], {})
                sides[side[q]] = max(sides.get(side[q], -np.inf), float(similarity[q, j]))
        scores = {name: float(np.mean(list(sides.values()))) for name, sides in best.items()}
        true = individual[mine[0]]
        if true in scores:
            ranks.append(_rank(scores, true))
        else:
            dropped += 1
    return TopN(np.array(ranks, int), dropped)
