"""What speaks for and against two encounters showing one animal: a graph of encounters.

A pair has the logarithm of the odds that it shows one animal: above 0 it is probable. What speaks for one animal
counts; what speaks against it does not, since many pairs of one animal have nothing in common, and it would count anew
for each pair of two clusters. What a person says about a pair adds log((1 - e) / e), where a share e of answers is
wrong, so that one wrong answer can be outweighed; and what people say against one animal does count.

Some pairs are two animals for certain: those of one photo. Others say nothing, because they show different flanks: such
encounters come together only through one that shows both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

import numpy as np

from pusa.records import FLANKS

Pair = tuple[int, int]  # of encounters, the smaller number first
NEAR = -4.0  # log odds from which on a pair is a reason to consider a change
LEAST = 0.2  # by which odds have to be off to be moved
SHIFTS = np.linspace(-3, 3, 121)  # by which they may be, of a standard normal distribution beforehand
CERTAIN = 1000.0  # weight of what is one animal for certain


def pair(a: int, b: int) -> Pair:
    return (a, b) if a < b else (b, a)


def flanks(sides: Iterable[Iterable[str]]) -> np.ndarray:
    """Which flank each encounter may show, (N, 2) bool, from the sides of its instances: both where it shows the
    animal from another side, or nobody knows. One picture of which nobody knows it adds nothing to the others."""
    rows = [set(s) - {"unknown"} for s in sides]
    return np.array([[not s or bool(s - {other}) for other in reversed(FLANKS)] for s in rows], bool).reshape(-1, 2)


def shown(sides: Iterable[Iterable[str]]) -> np.ndarray:
    """Which flank each encounter shows for all that is known, (N, 2) bool, from the sides of its instances."""
    return np.array([[flank in s for flank in FLANKS] for s in map(set, sides)], bool).reshape(-1, 2)


class Evidence:
    """The graph of `size` encounters.

    `pairs` (P, 2) int are those that were compared, and `odds` (P,) the logarithms of their odds. Any other pair counts
    nothing, nor does one without a common flank (`flanks`, (N, 2) bool). Two animals for certain are the pairs `apart`,
    and any two encounters with different `names`.
    """

    def __init__(
        self,
        size: int,
        pairs: np.ndarray,
        odds: np.ndarray,
        flanks: np.ndarray | None = None,
        apart: Iterable[Pair] = (),
        names: Sequence[str | None] | None = None,
    ) -> None:
        self.size, self.shift = size, 0.0
        self.flanks = np.ones((size, 2), bool) if flanks is None else flanks
        self.names = [None] * size if names is None else list(names)
        self._named = any(name is not None for name in self.names)
        self.odds: list[dict[int, float]] = [{} for _ in range(size)]  # answers among them
        self.weights: list[dict[int, float]] = [{} for _ in range(size)]  # what counts of the odds, where it is not 0
        self.near: list[set[int]] = [set() for _ in range(size)]  # pairs that are a reason to consider a change
        self.apart: list[set[int]] = [set() for _ in range(size)]
        self.answers: dict[Pair, list[float]] = {}
        shared = (self.flanks[pairs[:, 0]] & self.flanks[pairs[:, 1]]).any(axis=1) if len(pairs) else []
        for (a, b), w, common in zip(pairs.tolist(), odds.tolist(), shared, strict=True):
            if common:
                self._set(a, b, w, max(w, 0.0))
        for a, b in apart:
            self.apart[a].add(b)
            self.apart[b].add(a)

    def answer(self, a: int, b: int, weight: float) -> None:
        """Adds what a person said about a pair: above 0 one animal, below two, 0 that it cannot be said."""
        given = self.answers.setdefault(pair(a, b), [])
        measured = self.odds[a].get(b, 0.0) - sum(given)
        given.append(weight)
        self._count(a, b, measured)

    def _said(self, a: int, b: int) -> float:
        given: list[float] = self.answers.get(pair(a, b), [])
        return sum(given)

    def _count(self, a: int, b: int, measured: float) -> None:
        said = self._said(a, b)
        self._set(a, b, measured + said, max(measured + max(said, 0.0), 0.0) + min(said, 0.0))

    def learn(self) -> bool:
        """Moves the odds of all pairs by what is likeliest after the answers so far, if most come out otherwise than
        expected: odds that were fitted elsewhere may be too low or too high here. Returns whether they moved by more
        than LEAST."""
        asked = [(a, b, said) for a, b in self.answers if (said := self._said(a, b))]
        measured = np.array([self.odds[a][b] - said - self.shift for a, b, said in asked])
        sign = np.sign([said for *_, said in asked])
        loss = np.logaddexp(0, -sign * (measured + SHIFTS[:, None])).sum(axis=1) + SHIFTS**2 / 2
        more = float(SHIFTS[loss.argmin()]) - self.shift
        if abs(more) <= LEAST:
            return False
        self.shift += more
        for a, odds in enumerate(self.odds):
            for b, w in list(odds.items()):
                if a < b and w < CERTAIN / 2:
                    self._count(a, b, w - self._said(a, b) + more)
        return True

    def join(self, a: int, b: int) -> None:
        """Makes a pair one animal for certain."""
        self._set(a, b, CERTAIN, CERTAIN)

    def _set(self, a: int, b: int, odds: float, weight: float) -> None:
        for i, j in ((a, b), (b, a)):
            self.odds[i][j] = odds
            if weight:
                self.weights[i][j] = weight
            else:
                self.weights[i].pop(j, None)
            if odds > NEAR:
                self.near[i].add(j)
            else:
                self.near[i].discard(j)

    def comparable(self, a: int, b: int) -> bool:
        """Whether two encounters may show the same flank."""
        return bool((self.flanks[a] & self.flanks[b]).any())

    def matrix(self, members: Sequence[int]) -> np.ndarray:
        """Weights (m, m) among some encounters, 0 on the diagonal."""
        return np.array([[self.weights[i].get(j, 0.0) for j in members] for i in members]).reshape(-1, len(members))

    def forbidden(self, first: Set[int], second: Set[int]) -> bool:
        """Whether two sets hold a pair that is two animals for certain."""
        few, many = sorted((first, second), key=len)
        if any(not self.apart[i].isdisjoint(many) for i in few if self.apart[i]):
            return True
        if not self._named:
            return False
        names = [{self.names[i] for i in part} - {None} for part in (first, second)]
        return bool(names[0] and names[1]) and len(names[0] | names[1]) > 1
