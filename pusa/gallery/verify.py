"""Verification of candidates: evidence for each encounter of a gallery that it shows the animal of a query.

Each point of the query (key points of the grey crop and patches of the pattern alike) votes for the crops in which its
nearest neighbours lie, the more the nearer they are than a point of the background (local naive Bayes nearest
neighbour, McCann 2012; HotSpotter, Crall 2013). Of every encounter the pairs of crops that are most alike are held
against each other's geometry: points that one map carries over count by how near they are, and that there are more of
them than chance gives is what another animal rarely has. What the two kinds of points say is multiplied.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import Field

from pusa.config import Config, has_bfloat16
from pusa.gallery import geometry
from pusa.gallery.geometry import KINDS, Features, GeometryConfig, Kind, Match

SPARE = 4  # neighbours more than wanted that are kept until all are compared again
ALIKE = 0.4  # cosine from which on points that are each other's nearest make a pair of crops alike

CACHE = 2**30  # bytes of crops that are kept; 1 MB an encounter

Item = TypeVar("Item")
Read = Callable[[Sequence[int]], Sequence[Sequence[Features]]]


class VerifyConfig(Config):
    """Settings of the verification."""

    geometry: GeometryConfig = GeometryConfig()
    kinds: tuple[Kind, ...] = KINDS  # of points that are compared
    # Exponent of what patches say: the more, the fewer drawn seals; antelopes, once the networks have learnt them, gain
    patch_weight: float = Field(default=0.25, ge=0)
    crops: int = Field(default=8, gt=0)  # of an encounter that are compared, evenly spread
    neighbours: int = Field(default=3, gt=0)  # that a point votes for; the next one is the background
    maps: int = Field(default=3, ge=0)  # pairs of crops of an encounter for which a map is sought, those most alike
    # Inliers of two different animals, by chance: so many, and a share of the points that are each other's nearest
    chance: float = Field(default=5, gt=0)
    chance_share: float = Field(default=0.12, ge=0)
    map_weight: float = Field(default=0.08, ge=0)  # of what inliers beyond chance say
    unmapped: float = Field(default=0.2, ge=0)  # weight of votes that no map bears out, for those that one does
    shortlist: int = Field(default=100, gt=0)  # individuals, the nearest by Fisher vector, that are verified
    encounters: int = Field(default=200, gt=0)  # of these, at most, the nearest
    seconds: float | None = Field(default=None, ge=0)  # of a query, after which no more maps are sought; null = no end

    @classmethod
    def of_run(cls, manifest: Mapping[str, Any]) -> VerifyConfig:
        """The defaults, with key points as a run has them."""
        return cls(geometry=GeometryConfig(**manifest["config"].get("keypoints", {})))


@dataclass(frozen=True)
class Evidence:
    """For E encounters: `score` (E,), 0 where there is no vote, and `inliers` (E,) int, of the best map, 0 where there
    is none. Of one kind of points the score is that of the votes, most of which the maps have to bear out, times what
    the inliers of the best map say (see Voting)."""

    score: np.ndarray
    inliers: np.ndarray

    def cost(self, distance: np.ndarray) -> np.ndarray:
        """What encounters are ordered by (E,), less is nearer: the score, then the `distance` (E,) of those without."""
        return np.where(self.score > 0, -self.score, distance)


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` of the items, evenly spread."""
    return [items[i * len(items) // limit] for i in range(limit)] if len(items) > limit else list(items)


class Verifier:
    """Holds the crops of a gallery's encounters against those of one query.

    `gallery`: the crops of each encounter, or what reads those of some, by their places. The crops of encounters that
    were compared last stay in memory, CACHE bytes at most.
    """

    def __init__(self, gallery: Sequence[Sequence[Features]] | Read, config: VerifyConfig) -> None:
        self.config = config
        self._read = gallery if callable(gallery) else lambda places: [gallery[p] for p in places]
        self._cache: OrderedDict[int, Prepared] = OrderedDict()
        self._bytes = 0

    def __call__(self, query: Sequence[Features], compared: np.ndarray) -> Evidence:
        """Evidence for each of the `compared` (E,) bool encounters from the crops of a query; of others 0.

        Scores multiply as (1 + that of marks) (1 + that of patches)^weight - 1: neither is needed, and both count by
        their logarithm. Maps of the pairs with most votes are sought first, so that those go without one whose turn
        has not come when the time is up.
        """
        deadline = None if self.config.seconds is None else time.monotonic() + self.config.seconds
        places = np.flatnonzero(compared)
        encounters = self._prepared(places)
        score, inliers = np.ones(len(compared)), np.zeros(len(compared), int)
        for kind in self.config.kinds:
            found = Voting(kind, [e.kinds[kind] for e in encounters], self.config)(query, deadline)
            score[places] *= (1 + found.score) ** (self.config.patch_weight if kind == "patches" else 1)
            inliers[places] += found.inliers
        return Evidence(score - 1, inliers)

    def best_pair(self, query: Sequence[Features], encounter: int) -> tuple[Features, Features, Match]:
        """The pair of crops of a query and of an encounter of the gallery with most inliers of one kind, the first of
        equals."""
        pairs = [
            (a, b, geometry.match(a, b, self.config.geometry, kind))
            for kind in self.config.kinds for a in query for b in self._prepared(np.array([encounter]))[0].crops
        ]  # fmt: skip
        return max(pairs, key=lambda pair: pair[2].inliers)

    def _prepared(self, places: np.ndarray) -> list[Prepared]:
        missing = [int(p) for p in places if int(p) not in self._cache]
        for place, crops in zip(missing, self._read(missing) if missing else (), strict=True):
            self._cache[place] = Prepared.of(crops, self.config.kinds)
            self._bytes += self._cache[place].bytes
        result = [self._cache[int(p)] for p in places]
        for place in places:
            self._cache.move_to_end(int(place))
        while self._bytes > CACHE and self._cache:
            self._bytes -= self._cache.popitem(last=False)[1].bytes
        return result


@dataclass(frozen=True)
class Descriptors:
    """Of one kind of points of an encounter: the crops that have such, how many `each` has, and the points'
    descriptors, as they are kept (n, d), and `coarse`, of length 1, in the type in which all of them are compared."""

    crops: list[Features]
    each: list[int]
    descriptors: np.ndarray
    coarse: torch.Tensor

    @classmethod
    def of(cls, crops: Sequence[Features], kind: Kind) -> Descriptors:
        mine = [f for f in crops if len(f.points(kind).at)]
        every = [f.points(kind).descriptors for f in mine]
        descriptors = np.concatenate(every) if every else np.zeros((0, 0), np.float16)
        # In bfloat16 where the processor computes in it, several times faster: all are compared with every query.
        kept = torch.bfloat16 if has_bfloat16(torch.device("cpu")) else torch.float32
        return cls(mine, [len(d) for d in every], descriptors, torch.from_numpy(geometry.unit(descriptors)).to(kept))


@dataclass(frozen=True)
class Prepared:
    """The crops of an encounter, made ready to be compared."""

    crops: list[Features]
    kinds: dict[Kind, Descriptors]
    bytes: int

    @classmethod
    def of(cls, crops: Sequence[Features], kinds: Sequence[Kind]) -> Prepared:
        made = {kind: Descriptors.of(crops, kind) for kind in kinds}
        size = sum(2 * d.descriptors.nbytes + d.coarse.nbytes for d in made.values())
        return cls(list(crops), made, size + sum(len(f.picture) for f in crops))


def gain(similarity: np.ndarray, background: np.ndarray) -> np.ndarray:
    """By how much nearer than the background points are: squared distances of vectors of length 1."""
    return np.maximum(2 * (similarity - background), 0)


def likeness(similarity: torch.Tensor, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """How alike the crops of a query and those of an encounter are (crops, crops), by the similarities (m, n) of their
    points: the sum over points that are each other's nearest in the two of what these are above ALIKE. The crops begin
    and end at `mine` and `theirs`."""
    result = np.zeros((len(mine) - 1, len(theirs) - 1), np.float32)
    parts = [(x, slice(a, b)) for x, (a, b) in enumerate(pairwise(mine.tolist())) if a < b]
    back = [similarity[rows].amax(dim=0) for _, rows in parts]
    for y, (c, d) in enumerate(pairwise(theirs.tolist())):
        nearest, there = similarity[:, c:d].max(dim=1)
        above = (nearest - ALIKE).clamp_(min=0)
        for (x, rows), most in zip(parts, back, strict=True):
            result[x, y] = above[rows][most[there[rows] + c] == nearest[rows]].sum()
    return result


@dataclass(frozen=True)
class Seen:
    """What the points of a query say before a map is sought: `votes` and how `alike` crops are (crops of the query,
    crops), and the similarity of each point of its crops to the `background`."""

    votes: np.ndarray
    alike: np.ndarray
    background: list[np.ndarray]


class Voting:
    """The points of one kind of some encounters."""

    def __init__(self, kind: Kind, encounters: Sequence[Descriptors], config: VerifyConfig) -> None:
        self.kind, self.config = kind, config
        self.count = len(encounters)
        some = [d for d in encounters if d.crops]
        self.crops = [f for d in some for f in d.crops]
        self.encounter = np.repeat(np.arange(len(encounters)), [len(d.crops) for d in encounters])
        self.owner = np.repeat(np.arange(len(self.crops)), [n for d in some for n in d.each])
        self.each = [d.each for d in some]
        self.parts = [d.descriptors for d in some]
        self.starts = np.cumsum([0, *(len(p) for p in self.parts)])
        self.coarse = torch.cat([d.coarse for d in some]) if some else torch.zeros(0, 0)

    def __call__(self, query: Sequence[Features], deadline: float | None = None) -> Evidence:
        """Evidence for each encounter from the crops of a query. No map is sought after the `deadline`, a time of
        `time.monotonic`.

        The score of an encounter: gains of the inliers of its maps, and `unmapped` times the votes of the crop that has
        most, times e to the power of `map_weight` x `surprise` of its best map.
        """
        seen = self.seen(query)
        gains, inliers, surprise = np.zeros(self.count), np.zeros(self.count, int), np.zeros(self.count)
        np.maximum.at(gains, self.encounter, self.config.unmapped * seen.votes.max(axis=0, initial=0))
        for i, k in self.worth_a_map(seen.alike):
            if deadline is not None and time.monotonic() > deadline:
                break
            match, e = geometry.match(query[i], self.crops[k], self.config.geometry, self.kind), self.encounter[k]
            gains[e] += gain(match.similarity, seen.background[i][match.places]).sum()
            inliers[e] = max(inliers[e], match.inliers)
            surprise[e] = max(surprise[e], self.surprise(match))
        # Thousands of key points of one photo twice would be more than a float holds, and infinite odds are none.
        return Evidence(gains * np.exp(np.minimum(self.config.map_weight * surprise, 300)), inliers)

    def surprise(self, match: Match) -> float:
        """How much likelier than by chance the inliers k of a map are: k log(k / expected), 0 where there are fewer;
        a likelihood ratio of Poisson's distribution but for its smaller term."""
        k, expected = match.inliers, self.config.chance + self.config.chance_share * match.pairs
        return k * math.log(k / expected) if k > expected else 0.0

    def worth_a_map(self, alike: np.ndarray) -> list[tuple[int, int]]:
        """The pairs (crop of the query, crop) for which a map is sought, those most alike (crops of the query, crops)
        first: of each encounter as many as `maps`, and none that is not alike at all."""
        chosen: list[tuple[int, int]] = []
        taken = np.zeros(self.count, int)
        order = np.argsort(-alike, axis=None, kind="stable")
        for i, k in zip(*np.unravel_index(order[: (alike > 0).sum()], alike.shape), strict=True):
            if taken[self.encounter[k]] < self.config.maps:
                taken[self.encounter[k]] += 1
                chosen.append((int(i), int(k)))
        return chosen

    def seen(self, query: Sequence[Features]) -> Seen:
        """What the points of a query say; votes are of the points of each of its crops, for crops."""
        votes = np.zeros((len(query), len(self.crops)))
        neighbours = min(self.config.neighbours, len(self.owner) - 1)
        mine = [crop.points(self.kind).descriptors for crop in query]
        starts = np.cumsum([0, *(len(d) for d in mine)])
        if neighbours < 1 or not starts[-1]:
            return Seen(votes, votes, [])
        descriptors = np.concatenate([geometry.unit(d) for d in mine if len(d)])
        similarity, place, alike = self._nearest(descriptors, neighbours + 1, starts)
        gains, background = gain(similarity[:, :-1], similarity[:, -1:]), similarity[:, -1]
        for row, (begin, end) in zip(votes, pairwise(starts), strict=True):
            np.add.at(row, self.owner[place[begin:end, :-1]], gains[begin:end])
        return Seen(votes, alike, np.split(background, starts[1:-1]))

    @torch.inference_mode()
    def _nearest(self, queries: np.ndarray, k: int, mine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Similarities and places (m, k) of the k descriptors nearest to each of (m, d), nearest first; and how alike
        the crops are (crops of the query, crops): see `likeness`. The query's crops begin and end at `mine`.

        Encounter by encounter, since all similarities would be too many to keep, and coarsely; a few more than k are
        kept, and compared again in full precision.
        """
        x = torch.from_numpy(queries).to(self.coarse.dtype)
        best = torch.full((len(x), k + SPARE), -torch.inf)
        place = torch.zeros(best.shape, dtype=torch.long)
        alike = []
        for start, each in zip(self.starts[:-1], self.each, strict=True):
            theirs = np.cumsum([0, *each])
            similarity = (x @ self.coarse[start : start + theirs[-1]].T).float()
            alike.append(likeness(similarity, mine, theirs))
            # Few rows after the first encounters: to find the largest is a tenth of the work of ordering some.
            nearer = torch.nonzero(similarity.amax(dim=1) > best[:, -1])[:, 0]
            near, found = similarity[nearer].topk(min(k + SPARE, similarity.shape[1]), dim=1)
            best[nearer], order = torch.cat([best[nearer], near], 1).topk(k + SPARE, dim=1)
            place[nearer] = torch.cat([place[nearer], found + start], 1).gather(1, order)
        kept = geometry.unit(self._descriptors(place.numpy().ravel())).reshape(*place.shape, -1)
        exact = torch.from_numpy(np.einsum("md,mkd->mk", queries, kept)).masked_fill_(best.isinf(), -torch.inf)
        exact, order = exact.topk(k, dim=1)
        return exact.numpy(), place.gather(1, order).numpy(), np.concatenate(alike, axis=1)

    def _descriptors(self, places: np.ndarray) -> np.ndarray:
        """Descriptors at `places` (n,): joined, all of them would be copied for each query."""
        result = np.empty((len(places), self.parts[0].shape[1]), self.parts[0].dtype)
        part = np.searchsorted(self.starts, places, side="right") - 1
        order = np.argsort(part, kind="stable")
        for chunk in np.split(order, np.flatnonzero(np.diff(part[order])) + 1):
            number = part[chunk[0]]
            result[chunk] = self.parts[number][places[chunk] - self.starts[number]]
        return result
