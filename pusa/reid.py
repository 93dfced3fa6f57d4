"""Re-identification measured as in the paper's Table 3: by image and by encounter, against a database of single images
or of groups, with ties counted against the method.

With grouping, an image takes the answer of its group, even where its own pattern cannot be used; without, an image that
has no vector is a miss. What is compared are *groups* of instances: one image alone, or an encounter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pusa import ranking
from pusa.gallery import search

Group = list[int]  # numbers of the instances that show one animal
# Cost (Q, G), less is nearer, inf = cannot be compared, of query groups and gallery groups, `allowed` (Q, G) bool.
Method = Callable[[Sequence[Group], Sequence[Group], np.ndarray], np.ndarray]
TOPS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Instances:
    """n instances that show a known animal; arrays (n,) of texts, and `database` (n,) bool: its images and no queries.

    Where nothing is `database`, every instance is query and gallery, and is never compared with its own sequence.
    """

    encounter: np.ndarray
    sequence: np.ndarray
    individual: np.ndarray
    database: np.ndarray

    def groups(self, chosen: np.ndarray, together: bool) -> list[Group]:
        """The `chosen` (n,) bool one by one, or by encounter, or, of a database, by individual."""
        numbers = np.flatnonzero(chosen)
        if not together:
            return [[int(i)] for i in numbers]
        key = np.where(self.database, self.individual, self.encounter)[numbers]
        return [numbers[key == k].tolist() for k in dict.fromkeys(key)]

    def name(self, group: Group) -> str:
        """The individual that most of the group shows; the first of the alphabet on a tie."""
        names, counts = np.unique(self.individual[group], return_counts=True)
        return str(names[counts.argmax()])


@dataclass(frozen=True)
class Result:
    """`ranks` and `precision` (average precision) of each query, and the group it belongs to, for the bootstrap;
    `dropped`: queries of individuals that the gallery does not have."""

    ranks: np.ndarray
    precision: np.ndarray
    clusters: np.ndarray
    dropped: int

    def top(self, n: int) -> tuple[float, float, float]:
        """Share of the queries whose individual is among the first n, and its 95 % interval: groups are resampled."""
        return ranking.top_n_interval(self.ranks, n, self.clusters)


@dataclass(frozen=True)
class Ranked:
    """The answers of a method to Q query groups: rank and average precision for each individual that a group may
    truly be, (Q, I), and the names (I,) of the individuals."""

    queries: list[Group]
    names: np.ndarray
    ranks: np.ndarray
    precision: np.ndarray

    def by_image(self, instances: Instances) -> Result:
        """Each image takes the answer of its group."""
        images = [i for group in self.queries for i in group]
        row = np.repeat(np.arange(len(self.queries)), [len(g) for g in self.queries])
        return self._result(row, instances.individual[images], instances.encounter[images])

    def by_group(self, instances: Instances) -> Result:
        """One answer a group, right where it names the individual of most of its images."""
        names = np.array([instances.name(group) for group in self.queries])
        row = np.arange(len(self.queries))
        return self._result(row, names, np.array([instances.encounter[g[0]] for g in self.queries]))

    def _result(self, row: np.ndarray, individual: np.ndarray, clusters: np.ndarray) -> Result:
        place = np.searchsorted(self.names, individual).clip(0, len(self.names) - 1)
        known = (self.names[place] == individual) & ~np.isnan(self.precision[row, place])
        row, place = row[known], place[known]
        return Result(self.ranks[row, place], self.precision[row, place], clusters[known], int((~known).sum()))


def rank(instances: Instances, method: Method, grouping: bool, grouped_gallery: bool) -> Ranked:
    """Compares the queries, as single images or by encounter, with a gallery of single images or groups.

    An individual is as near as its nearest gallery group. Average precision: over the individual's gallery groups. Both
    are NaN, or a miss, where a query may not be compared with any group of the individual.
    """
    split = instances.database.any()
    everything = np.ones(len(instances.database), bool)
    queries = instances.groups(~instances.database if split else everything, grouping)
    gallery = instances.groups(instances.database if split else everything, grouped_gallery)
    mine = np.array([instances.sequence[g[0]] for g in queries])
    theirs = np.array([instances.sequence[g[0]] for g in gallery])
    allowed = np.ones((len(queries), len(gallery)), bool) if split else mine[:, None] != theirs
    owner = np.array([instances.name(g) for g in gallery])
    cost = np.where(allowed, method(queries, gallery, allowed), np.inf)
    owners = search.Owners.of(owner.tolist())
    names, (nearest, _) = owners.names, owners.least(cost)
    ranks = np.zeros((len(queries), len(names)), int)
    precision = np.full(ranks.shape, np.nan)
    for k, name in enumerate(names):
        ranks[:, k] = ranking.ranks(nearest, np.full(len(queries), k))
        relevant = (owner == name) & allowed
        found = ranking.average_precision(cost, relevant)
        # Not one of the individual's groups could be compared: nothing was found, which is not "nothing to find".
        precision[:, k] = np.where(relevant.any(axis=1), np.nan_to_num(found), np.nan)
    return Ranked(queries, np.array(names), ranks, precision)
