"""Reviews by a simulated reviewer who knows the truth, beside plain thresholding and reviewing by similarity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from pusa import partitions
from pusa.catalogue.count import by_flank, count
from pusa.catalogue.evidence import Pair
from pusa.catalogue.pairs import Pairs
from pusa.catalogue.review import Answer, Review


class Reviewer:
    """Answers by the true `individual` of each encounter, wrongly so in a share `error` of the questions; "unknown"
    where two encounters have no flank in common (`flanks`, (N, 2) bool)."""

    def __init__(
        self, individual: Sequence[str], error: float, flanks: np.ndarray | None = None, seed: int = 0
    ) -> None:
        self.individual, self.error, self.flanks = list(individual), error, flanks
        self.rng = np.random.default_rng(seed)
        self.asked: list[Pair] = []

    def __call__(self, a: int, b: int) -> Answer:
        self.asked.append((a, b))
        wrong = self.rng.random() < self.error
        if self.flanks is not None and not (self.flanks[a] & self.flanks[b]).any():
            return "unknown"
        return "same" if (self.individual[a] == self.individual[b]) != wrong else "different"


@dataclass(frozen=True)
class Figures:
    """Of one review: `questions`, the `encounters` that were in one, `clusters`, the `animals` that these make
    (`count`), the relative error of their number, and the adjusted Rand index of the clusters against the truth;
    `left_error` and `right_error`: likewise, of the animals that are seen from one flank, NaN where sides are not
    known."""

    questions: int
    encounters: int
    clusters: int
    animals: float
    count_error: float
    adjusted_rand: float
    left_error: float = math.nan
    right_error: float = math.nan


@dataclass(frozen=True)
class Seen:
    """Which flank each encounter shows as far as a catalogue knows (N, 2) bool, and truly (N, 2) bool."""

    known: np.ndarray
    true: np.ndarray


def figures(
    individual: Sequence[str], labels: Sequence[int], asked: Sequence[Pair], seen: Seen | None = None
) -> Figures:
    """What came of a review."""
    sizes = list(Counter(labels).values())
    animals = count(sizes).animals
    agreement = partitions.pairs(individual, labels).adjusted_rand_index
    shown = len({i for p in asked for i in p})
    error = animals / len(set(individual)) - 1
    flanks = (math.nan, math.nan)
    if seen is not None and seen.known.any(axis=0).all():
        true = [len({individual[i] for i in np.flatnonzero(flank).tolist()}) for flank in seen.true.T]
        left, right = (c.animals / max(n, 1) - 1 for c, n in zip(by_flank(labels, seen.known), true, strict=True))
        flanks = (left, right)
    return Figures(len(asked), shown, len(sizes), animals, error, agreement, *flanks)


def review(asking: Review, reviewer: Callable[[int, int], Answer], most: int | None = None) -> None:
    """Asks the reviewer, `most` questions at most, until nothing is left to ask."""
    asked = 0
    while (most is None or asked < most) and (question := asking.question()):
        asking.answer(question.pair, reviewer(*question.pair))
        asked += 1


def by_threshold(size: int, pairs: Pairs, weights: np.ndarray, threshold: float) -> list[int]:
    """Labels of what hangs together by pairs that weigh more than the threshold."""
    sets = DisjointSet(range(size))
    for a, b in pairs.at[weights > threshold].tolist():
        sets.merge(a, b)
    return _labels(sets, size)


def by_similarity(
    size: int,
    pairs: Pairs,
    weights: np.ndarray,
    reviewer: Callable[[int, int], Answer],
    most: int,
    threshold: float = math.inf,
) -> list[int]:
    """Labels after `most` questions about the heaviest pairs, one after another, less those that follow from "same"
    answers, and less those above the `threshold`, which are taken for the same: what one does with a ranked list."""
    sets, asked = DisjointSet(range(size)), 0
    for place in np.argsort(-weights, kind="stable"):
        a, b = (int(x) for x in pairs.at[place])
        if weights[place] > threshold:
            sets.merge(a, b)
        elif asked == most:
            break
        elif not sets.connected(a, b):
            asked += 1
            if reviewer(a, b) == "same":
                sets.merge(a, b)
    return _labels(sets, size)


def _labels(sets: DisjointSet, size: int) -> list[int]:
    root: dict[int, int] = {}
    return [root.setdefault(sets[i], len(root)) for i in range(size)]
