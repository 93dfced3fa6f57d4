"""Encounters in clusters, one an individual: a partition that no single change makes more probable.

Its objective is the sum of the weights of all pairs within clusters, and for each cluster a small `cost` of joining
it to another one, so that what nothing holds together falls apart. No cluster holds a pair that is two animals for
certain. This is correlation clustering (Bansal 2004), by agglomeration and local search.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pusa.catalogue.evidence import Evidence

LEAST = 1e-9  # by which the objective has to rise: less is rounding


@dataclass(frozen=True)
class Change:
    """A way to have it otherwise: `part` leaves the cluster `source` and joins the cluster `target`, or becomes one of
    its own (-1). `loss`: by how much the objective falls then; below 0 it rises."""

    kind: Literal["merge", "split", "move"]
    part: tuple[int, ...]
    source: int
    target: int
    loss: float


class Clusters:
    """A partition of the encounters of some evidence: `label` of each, and the `members` of each label."""

    def __init__(self, evidence: Evidence, cost: float = 0.01, labels: Sequence[int] | None = None) -> None:
        self.evidence, self.cost = evidence, cost
        self.label = list(range(evidence.size)) if labels is None else [int(x) for x in labels]
        self.members: dict[int, set[int]] = {}
        for i, name in enumerate(self.label):
            self.members.setdefault(name, set()).add(i)
        self._fresh = max(self.label, default=-1) + 1

    def objective(self) -> float:
        """What is to be as large as can be."""
        within = sum(self.evidence.matrix(sorted(m)).sum() / 2 for m in self.members.values() if len(m) > 1)
        return float(within) + self.cost * len(self.members)

    def agglomerate(self) -> None:
        """Joins the two clusters that gain most by it, until none do."""
        sums: dict[int, dict[int, float]] = {name: {} for name in self.members}
        for i, weights in enumerate(self.evidence.weights):
            for j, w in weights.items():
                mine, other = self.label[i], self.label[j]
                if mine != other:
                    sums[mine][other] = sums[mine].get(other, 0.0) + w
        heap = [(-w, a, b) for a, mine in sums.items() for b, w in mine.items() if a < b and w > self.cost]
        heapq.heapify(heap)
        while heap:
            w, a, b = heapq.heappop(heap)
            # What has changed since it was pushed was pushed again.
            if sums.get(a, {}).get(b) != -w or self._forbidden(self.members[a], b):
                continue
            if len(sums[a]) < len(sums[b]):
                a, b = b, a
            self._put(tuple(self.members[b]), b, a)
            for c, more in sums.pop(b).items():
                del sums[c][b]
                if c != a:
                    sums[a][c] = sums[c][a] = sums[a].get(c, 0.0) + more
                    if sums[a][c] > self.cost:
                        heapq.heappush(heap, (-sums[a][c], min(a, c), max(a, c)))

    def links(self, name: int) -> dict[int, float]:
        """Sum of the weights towards each other cluster that a pair is near to, by label."""
        near: set[int] = set()
        total: dict[int, float] = {}
        for i in self.members[name]:
            close, sums = self._toward(i)
            near |= close
            for other, w in sums.items():
                total[other] = total.get(other, 0.0) + w
        return {other: total[other] for other in near - {name}}

    def search(self, changed: Iterable[int]) -> set[int]:
        """Makes changes that raise the objective, beginning with those of the clusters `changed`, until there are none.
        Returns the labels of all clusters that are others now, or whose neighbours are."""
        waiting = dict.fromkeys(changed)
        touched = set(waiting)
        while waiting:
            name = next(iter(waiting))
            del waiting[name]
            if name not in self.members:
                continue
            best = min(self.changes(name), key=lambda c: c.loss, default=None)
            if best is not None and best.loss < -LEAST:
                again = self.apply(best)
                waiting |= dict.fromkeys(again)
                touched |= again
        return touched

    def apply(self, change: Change) -> set[int]:
        """Makes a change. Returns the labels of the clusters that are others now, and of their neighbours."""
        target = change.target
        if target < 0:
            target, self._fresh = self._fresh, self._fresh + 1
        self._put(change.part, change.source, target)
        return self.around({change.source, target}) | {change.source, target}

    def around(self, names: Iterable[int]) -> set[int]:
        """The labels of clusters whose changes depend on these: themselves, and those that a pair is near to."""
        members = [i for name in names for i in self.members.get(name, ())]
        return {self.label[j] for i in members for j in (i, *self.evidence.near[i])}

    def changes(self, name: int) -> list[Change]:
        """What could be otherwise with a cluster: every merge with a neighbour, the splits in two that cut few links,
        and every move of one encounter to a neighbour."""
        members = sorted(self.members[name])
        found = [
            Change("merge", tuple(members), name, other, self.cost - w)
            for other, w in self.links(name).items()
            if not self._forbidden(self.members[name], other)
        ]
        if len(members) == 1:
            return found
        inner = self.evidence.matrix(members)
        for part in _cuts(inner):
            cut = float(inner[np.ix_(part, ~part)].sum())
            found.append(Change("split", tuple(np.array(members)[part].tolist()), name, -1, cut - self.cost))
        for k, i in enumerate(members):
            own = float(inner[k].sum())
            close, sums = self._toward(i)
            for other in close - {name}:
                if not self._forbidden({i}, other):
                    found.append(Change("move", (i,), name, other, own - sums[other]))
        return found

    def _toward(self, i: int) -> tuple[set[int], dict[int, float]]:
        """Clusters that an encounter is near to, and the sum of its weights towards them and all others that count."""
        near = {self.label[j] for j in self.evidence.near[i]}
        total = dict.fromkeys(near, 0.0)
        for j, w in self.evidence.weights[i].items():
            other = self.label[j]
            total[other] = total.get(other, 0.0) + w
        return near, total

    def _forbidden(self, part: Set[int], other: int) -> bool:
        return self.evidence.forbidden(part, self.members[other])

    def _put(self, part: Sequence[int], source: int, target: int) -> None:
        self.members[source] -= set(part)
        self.members.setdefault(target, set()).update(part)
        for i in part:
            self.label[i] = target
        if not self.members[source]:
            del self.members[source]


def _cuts(weights: np.ndarray) -> list[np.ndarray]:
    """Parts (m,) bool of m encounters that could be split off: each one alone, and what hangs on each link of the tree
    of strongest links (Prim)."""
    m = len(weights)
    strongest, parent = weights[0].copy(), np.zeros(m, int)
    inside = np.arange(m) == 0
    hanging = np.eye(m, dtype=bool)
    order = []
    for _ in range(m - 1):
        k = int(np.where(inside, -np.inf, strongest).argmax())
        inside[k] = True
        order.append(k)
        nearer = ~inside & (weights[k] > strongest)
        strongest[nearer], parent[nearer] = weights[k][nearer], k
    for k in reversed(order):
        hanging[parent[k]] |= hanging[k]
    every = [*np.eye(m, dtype=bool)[: m if m > 2 else 1], *(hanging[k] for k in order if 1 < hanging[k].sum() < m - 1)]
    return every
