"""Verification of candidates: evidence for each encounter of a gallery that it shows the animal of a query.

Each point of the query (key points of the grey crop and patches of the pattern alike) votes for the crops in which its
nearest neighbours lie, the more the nearer they are than a point of the background (local naive Bayes nearest
neighbour, McCann 2012; HotSpotter, Crall 2013). The crops with most votes are held against the query's geometry: the
inliers of one map are what another animal rarely has. What the two kinds of points say is multiplied.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import Field

from pusa.config import Config, has_bfloat16
from pusa.gallery import geometry
from pusa.gallery.geometry import KINDS, Features, GeometryConfig, Kind, Match

BLOCK = 4096  # descriptors of a gallery compared at once: with all of a query's it stays in the cache
SPARE = 4  # neighbours more than wanted that are kept until all are compared again

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
    maps: int = Field(default=20, ge=0)  # crops for which a crop of the query seeks a map, those with most votes
    chance: int = Field(default=10, ge=0)  # inliers that two different animals have by chance, and that say nothing
    shortlist: int = Field(default=100, gt=0)  # individuals, the nearest by Fisher vector, that are verified
    encounters: int = Field(default=200, gt=0)  # of these, at most, the nearest
    seconds: float | None = Field(default=None, ge=0)  # of a query, after which no more maps are sought; null = no end

    @classmethod
    def of_run(cls, manifest: Mapping[str, Any]) -> VerifyConfig:
        """The defaults, with key points as a run has them."""
        return cls(geometry=GeometryConfig(**manifest["config"].get("keypoints", {})))


@dataclass(frozen=True)
class Evidence:
    """For E encounters: `score` (E,), 0 where there is no vote, and `inliers` (E,) int, 0 where there is no map. Of one
    kind of points the score is that of the best pair of crops, votes x (1 + inliers beyond chance), and the
    inliers are those of the best map, all of them."""

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


class Voting:
    """The points of one kind of some encounters."""

    def __init__(self, kind: Kind, encounters: Sequence[Descriptors], config: VerifyConfig) -> None:
        self.kind, self.config = kind, config
        self.count = len(encounters)
        some = [d for d in encounters if d.crops]
        self.crops = [f for d in some for f in d.crops]
        self.encounter = np.repeat(np.arange(len(encounters)), [len(d.crops) for d in encounters])
        self.owner = np.repeat(np.arange(len(self.crops)), [n for d in some for n in d.each])
        self.parts = [d.descriptors for d in some]
        self.starts = np.cumsum([0, *(len(p) for p in self.parts)])
        self.coarse = torch.cat([d.coarse for d in some]) if some else torch.zeros(0, 0)

    def __call__(self, query: Sequence[Features], deadline: float | None = None) -> Evidence:
        """Evidence for each encounter from the crops of a query. No map is sought after the `deadline`, a time of
        `time.monotonic`."""
        found = Evidence(np.zeros(self.count), np.zeros(self.count, int))
        votes = self.votes(query)
        inliers = np.zeros(votes.shape, int)
        wanted = [(i, k) for i, row in enumerate(votes) for k in np.argsort(-row, kind="stable")[: self.config.maps]]
        for i, k in sorted(wanted, key=lambda pair: -votes[pair]):
            if votes[i, k] <= 0 or (deadline is not None and time.monotonic() > deadline):
                break
            inliers[i, k] = geometry.match(query[i], self.crops[k], self.config.geometry, self.kind).inliers
        weight = 1 + np.maximum(inliers - self.config.chance, 0)
        for i in range(len(query)):
            np.maximum.at(found.score, self.encounter, votes[i] * weight[i])
            np.maximum.at(found.inliers, self.encounter, inliers[i])
        return found

    def votes(self, query: Sequence[Features]) -> np.ndarray:
        """Votes (crops of the query, crops) of the points of each crop of a query."""
        result = np.zeros((len(query), len(self.crops)))
        neighbours = min(self.config.neighbours, len(self.owner) - 1)
        mine = [crop.points(self.kind).descriptors for crop in query]
        sizes = [len(d) for d in mine]
        if neighbours < 1 or not sum(sizes):
            return result
        descriptors = np.concatenate([geometry.unit(d) for d in mine if len(d)])
        similarity, place = self._nearest(descriptors, neighbours + 1)
        # Squared distances of vectors of length 1; the last one is the background's.
        gain = 2 * (similarity[:, :-1] - similarity[:, -1:])
        begin = 0
        for votes, size in zip(result, sizes, strict=True):
            part = slice(begin, begin + size)
            np.add.at(votes, self.owner[place[part, :-1]], gain[part])
            begin += size
        return result

    @torch.inference_mode()
    def _nearest(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Similarities and places (m, k) of the k descriptors nearest to each of (m, d), nearest first.

        Block by block, since all similarities would be too many to keep, and coarsely; a few more than k are kept, and
        compared again in full precision.
        """
        x = torch.from_numpy(queries).to(self.coarse.dtype)
        best = torch.zeros(len(x), 0)
        place = torch.zeros(len(x), 0, dtype=torch.long)
        for start in range(0, len(self.coarse), BLOCK):
            block = self.coarse[start : start + BLOCK]
            similarity, found = (x @ block.T).topk(min(k + SPARE, len(block)), dim=1)
            best, place = torch.cat([best, similarity.float()], 1), torch.cat([place, found + start], 1)
            best, order = best.topk(min(k + SPARE, best.shape[1]), dim=1)
            place = place.gather(1, order)
        kept = geometry.unit(self._descriptors(place.numpy().ravel())).reshape(*place.shape, -1)
        exact, order = torch.from_numpy(np.einsum("md,mkd->mk", queries, kept)).topk(k, dim=1)
        return exact.numpy(), place.gather(1, order).numpy()

    def _descriptors(self, places: np.ndarray) -> np.ndarray:
        """Descriptors at `places` (n,): joined, all of them would be copied for each query."""
        result = np.empty((len(places), self.parts[0].shape[1]), self.parts[0].dtype)
        part = np.searchsorted(self.starts, places, side="right") - 1
        order = np.argsort(part, kind="stable")
        for chunk in np.split(order, np.flatnonzero(np.diff(part[order])) + 1):
            number = part[chunk[0]]
            result[chunk] = self.parts[number][places[chunk] - self.starts[number]]
        return result
