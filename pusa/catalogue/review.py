"""Questions to a person, the most informative first (the idea of Local Clustering and its Alternatives, LCA: Stewart
2021).

The catalogue is the most probable partition that local changes reach. Each change that would leave it loses some of the
objective, and exp(-loss) are its odds. The change that loses least is asked about, by the strongest pair that it would
join or part, since there most is to be seen. An answer adds to the weight of its pair, and the partition is improved
around it: what one answer settles, no other pair is asked about (transitivity). When every change loses at least
`margin`, no single question is worth much, and the review ends.

An answer that goes against all other evidence leaves a change that loses little: it is asked about again, by another
pair or by the same one. So merges and splits that only one answer carries get a second look.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from pusa.catalogue.clusters import Change, Clusters
from pusa.catalogue.evidence import Pair, pair
from pusa.config import Config

Answer = Literal["same", "different", "unknown"]


class ReviewConfig(Config):
    """Settings of the review."""

    reviewer_error: float = Field(default=0.02, gt=0, lt=0.5)  # share of answers that are expected to be wrong
    margin: float = Field(
        default=2.0, ge=0
    )  # of the objective that every change has to lose; exp(-margin) are its odds
    looks: int = Field(default=3, gt=0)  # questions about one change at most, "cannot say" among them
    # Weak signs come from the encounter as much as from the pair (a clear picture resembles many): they do not add up.
    weak: float = Field(default=2.0, ge=0)  # what weighs less counts as nothing
    against: float = Field(default=0.3, ge=0)  # how much of what speaks for two animals counts, for the same reason

    def counted(self, weights: np.ndarray) -> np.ndarray:
        """What counts of the weights of pairs (P,)."""
        return np.where(weights > self.weak, weights, self.against * np.minimum(weights, 0))

    def weight(self, answer: Answer) -> float:
        """What an answer weighs."""
        sure = math.log((1 - self.reviewer_error) / self.reviewer_error)
        return {"same": sure, "different": -sure, "unknown": 0.0}[answer]


@dataclass(frozen=True)
class Question:
    """Do these two encounters show one animal? And what depends on it."""

    pair: Pair
    change: Change
    probability: float  # that the change is right, beside what is thought now


class Review:
    """Asks until the `clusters` are settled."""

    def __init__(self, clusters: Clusters, config: ReviewConfig) -> None:
        self.clusters, self.config = clusters, config
        self._heap: list[tuple[float, int, int, Change]] = []
        self._version: dict[int, int] = {}
        self._count = 0
        self._refresh(clusters.search(list(clusters.members)) | clusters.members.keys())

    def question(self) -> Question | None:
        """The most informative one; None where the catalogue is settled."""
        while self._heap:
            loss, _, version, change = self._heap[0]
            stale = self._version.get(change.source) != version
            if not stale and (asked := self._pair(change)):
                return Question(asked, change, 1 / (1 + math.exp(loss)))
            heapq.heappop(self._heap)
        return None

    def questions(self, most: int) -> list[Question]:
        """The most informative ones, as long as none is answered; no pair twice."""
        found: dict[Pair, Question] = {}
        for loss, _, version, change in sorted(self._heap, key=lambda entry: entry[:2]):
            if len(found) == most:
                break
            if self._version.get(change.source) == version and (asked := self._pair(change)):
                found.setdefault(asked, Question(asked, change, 1 / (1 + math.exp(loss))))
        return list(found.values())

    def answer(self, asked: Pair, answer: Answer) -> None:
        """Takes an answer to any pair, and improves the clusters around it."""
        self.clusters.evidence.answer(*asked, self.config.weight(answer))
        around = {self.clusters.label[i] for i in asked}
        self._refresh(self.clusters.search(around) | self.clusters.around(asked))

    def _refresh(self, names: set[int]) -> None:
        for name in names:
            self._version[name] = self._version.get(name, 0) + 1
            if name not in self.clusters.members:
                continue
            for change in self.clusters.changes(name):
                # A merge is known to both of its clusters; one of them asks.
                if change.loss < self.config.margin and not (change.kind == "merge" and change.source > change.target):
                    self._count += 1
                    heapq.heappush(self._heap, (change.loss, self._count, self._version[name], change))

    def _pair(self, change: Change) -> Pair | None:
        """The pair to ask about: of those not asked yet, or asked least often, the strongest; None where enough has
        been asked about this change."""
        evidence, asked = self.clusters.evidence, 0
        best: tuple[tuple[int, float], Pair] | None = None
        for a, b in self._cut(change):
            times = len(evidence.answers.get(pair(a, b), ()))
            asked += times
            if evidence.comparable(a, b):
                order = (times, -evidence.weight(a, b))
                best = min(best or (order, pair(a, b)), (order, pair(a, b)))
        return best[1] if best and asked < self.config.looks else None

    def _cut(self, change: Change) -> Iterator[Pair]:
        """The pairs that a change would join or part."""
        members = self.clusters.members
        rest = members[change.source] - set(change.part)
        others = rest | (members[change.target] if change.target >= 0 else set())
        return ((a, b) for a in change.part for b in others)
