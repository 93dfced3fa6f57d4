"""What speaks for and against two encounters showing one animal: a graph of encounters.

A pair weighs the logarithm of how much likelier its signs are if both encounters show one animal than if they show two:
above 0 it speaks for one, below for two. What a person says about a pair is added in the same unit, log((1 - e) / e)
where one answer in 1 / e is wrong, so that one wrong answer can be outweighed. Some pairs are never one animal: those
of one photo. Others say nothing, because they show different flanks: such encounters come together only through
one that shows both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

Pair = tuple[int, int]  # of encounters, the smaller number first
FLANKS = ("left", "right")


def pair(a: int, b: int) -> Pair:
    return (a, b) if a < b else (b, a)


def flanks(sides: Iterable[Iterable[str]]) -> np.ndarray:
    """Which flank each encounter may show, (N, 2) bool, from the sides of its instances: both where it shows the
    animal from another side, or nobody knows."""
    rows = [set(s) for s in sides]
    return np.array([[not s or bool(s - {other}) for other in reversed(FLANKS)] for s in rows], bool).reshape(-1, 2)


class Evidence:
    """The graph of `size` encounters.

    `pairs` (P, 2) int are those that were compared, and `weights` (P,) what they weigh. Any other pair weighs nothing,
    nor does one without a common flank (`flanks`, (N, 2) bool). Two animals for certain are the pairs `apart`, and any
    two encounters with different `names`.
    """

    def __init__(
        self,
        size: int,
        pairs: np.ndarray,
        weights: np.ndarray,
        flanks: np.ndarray | None = None,
        apart: Iterable[Pair] = (),
        names: Sequence[str | None] | None = None,
    ) -> None:
        self.size = size
        self.flanks = np.ones((size, 2), bool) if flanks is None else flanks
        self.names = [None] * size if names is None else list(names)
        self.weights: list[dict[int, float]] = [{} for _ in range(size)]
        self.apart: list[set[int]] = [set() for _ in range(size)]
        self.answers: dict[Pair, list[float]] = {}
        shared = (self.flanks[pairs[:, 0]] & self.flanks[pairs[:, 1]]).any(axis=1) if len(pairs) else []
        for (a, b), w, common in zip(pairs.tolist(), weights.tolist(), shared, strict=True):
            if common:
                self.weights[a][b] = self.weights[b][a] = w
        for a, b in apart:
            self.apart[a].add(b)
            self.apart[b].add(a)

    def answer(self, a: int, b: int, weight: float) -> None:
        """Adds what a person said about a pair: above 0 one animal, below two, 0 that it cannot be said."""
        self.answers.setdefault(pair(a, b), []).append(weight)
        w = self.weight(a, b) + weight
        self.weights[a][b] = self.weights[b][a] = w

    def weight(self, a: int, b: int) -> float:
        """What a pair weighs."""
        return self.weights[a].get(b, 0.0)

    def comparable(self, a: int, b: int) -> bool:
        """Whether two encounters may show the same flank."""
        return bool((self.flanks[a] & self.flanks[b]).any())

    def matrix(self, members: Sequence[int]) -> np.ndarray:
        """Weights (m, m) among some encounters, 0 on the diagonal."""
        return np.array([[self.weights[i].get(j, 0.0) for j in members] for i in members]).reshape(-1, len(members))

    def forbidden(self, first: Iterable[int], second: Iterable[int]) -> bool:
        """Whether two sets hold a pair that is two animals for certain."""
        others, mine = set(second), list(first)
        if any(not self.apart[i].isdisjoint(others) for i in mine):
            return True
        names = [{self.names[i] for i in part} - {None} for part in (mine, others)]
        return bool(names[0] and names[1]) and len(names[0] | names[1]) > 1
