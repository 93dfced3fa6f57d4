"""Questions to a person, the most informative first (the idea of Local Clustering and its Alternatives, LCA, of
Wildbook).

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

from pydantic import Field

from pusa.catalogue.clusters import Change, Clusters
from pusa.catalogue.evidence import Pair, pair
from pusa.config import Config

Answer = Literal["same", "different", "unknown"]


class ReviewConfig(Config):
    """Settings of the review."""

    reviewer_error: float = Field(default=0.02, gt=0, lt=0.5)  # share of answers that are expected to be wrong
    margin: float = Field(default=2.0, ge=0)  # that every change has to lose; exp(-margin) are its odds
    learn: bool = True  # whether answers move the odds of all pairs
    looks: int = Field(default=3, gt=0)  # questions about one change at most, "cannot say" among them

    def weight(self, answer: Answer) -> float:
        """What an answer weighs."""
        sure = math.log((1 - self.reviewer_error) / self.reviewer_error)
        return {"same": sure, "different": -sure, "unknown": 0.0}[answer]


@dataclass(frozen=True)
class Question:
    """Do these two encounters show one animal? And what depends on it."""

    pair: Pair
    change: Change
    odds: float  # logarithm of those of the change, beside what is thought now

    @property
    def probability(self) -> float:
        """That the change is right."""
        return 1 / (1 + math.exp(-self.odds))


class Review:
    """Asks until the `clusters` are settled."""

    def __init__(self, clusters: Clusters, config: ReviewConfig) -> None:
        self.clusters, self.config = clusters, config
        self._heap: list[tuple[float, int, int, Question]] = []
        self._version: dict[int, int] = {}  # of each label: questions about an earlier one are void
        self._count = 0
        self._refresh(clusters.search(list(clusters.members)) | clusters.members.keys())

    def question(self) -> Question | None:
        """The most informative one; None where the catalogue is settled."""
        while self._heap and not self._current(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][3] if self._heap else None

    def questions(self, most: int) -> list[Question]:
        """The most informative ones, as long as none is answered; no pair twice."""
        found: dict[Pair, Question] = {}
        for entry in sorted(self._heap):
            if len(found) == most:
                break
            if self._current(entry):
                found.setdefault(entry[3].pair, entry[3])
        return list(found.values())

    def answer(self, asked: Pair, answer: Answer) -> None:
        """Takes an answer to any pair, and improves the clusters around it."""
        self.clusters.evidence.answer(*asked, self.config.weight(answer))
        if self.config.learn and self.clusters.evidence.learn():
            self._refresh(self.clusters.search(list(self.clusters.members)) | self.clusters.members.keys())
            return
        around = {self.clusters.label[i] for i in asked}
        self._refresh(self.clusters.search(self.clusters.around(around)))

    def _current(self, entry: tuple[float, int, int, Question]) -> bool:
        return self._version.get(entry[3].change.source) == entry[2]

    def _refresh(self, names: set[int]) -> None:
        for name in names:
            self._version[name] = self._version.get(name, 0) + 1
            for change in self.clusters.changes(name) if name in self.clusters.members else ():
                # A merge is known to both of its clusters; one of them asks.
                if change.kind == "merge" and change.source > change.target:
                    continue
                if change.loss < self.config.margin and (question := self._question(change)):
                    self._count += 1
                    entry = (-question.odds, self._count, self._version[name], question)
                    heapq.heappush(self._heap, entry)

    def _question(self, change: Change) -> Question | None:
        """What to ask about a change: of the pairs not asked yet, or asked least often, the strongest; None where
        enough has been asked about it, or it is too improbable."""
        evidence, asked = self.clusters.evidence, 0
        best: tuple[int, float, Pair] | None = None
        strongest = -math.inf
        for a, b in self._cut(change):
            times = len(evidence.answers.get(pair(a, b), ()))
            odds = evidence.odds[a].get(b, -math.inf)  # a pair that was never compared is asked about last
            asked += times
            if evidence.comparable(a, b):
                strongest = max(strongest, odds)
                best = min(best or (times, -odds, pair(a, b)), (times, -odds, pair(a, b)))
        odds = -change.loss
        if change.kind == "merge":  # at most as probable as its strongest pair
            odds += min(strongest, 0.0)
        if best is None or asked >= self.config.looks or odds <= -self.config.margin:
            return None
        return Question(best[2], change, odds)

    def _cut(self, change: Change) -> Iterator[Pair]:
        """The pairs that a change would join or part."""
        members = self.clusters.members
        rest = members[change.source] - set(change.part)
        others = rest | (members[change.target] if change.target >= 0 else set())
        return ((a, b) for a in change.part for b in others)
