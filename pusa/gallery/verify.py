"""Verification of candidates: evidence for each encounter of a gallery that it shows the animal of a query.

Each point of the query (key points of the grey crop and patches of the pattern alike) votes for the crops in which its
nearest neighbours lie, the more the nearer they are than a point of the background (local naive Bayes nearest
neighbour, McCann 2012; HotSpotter, Crall 2013). The crops with most votes are held against the query's geometry: the
inliers of one map are what another animal rarely has. What the two kinds of points say is multiplied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from pydantic import Field

from pusa.config import Config, has_bfloat16
from pusa.gallery import geometry
from pusa.gallery.geometry import KINDS, Features, GeometryConfig, Kind, Match

BLOCK = 4096  # descriptors of a gallery compared at once: with all of a query's it stays in the cache
SPARE = 4  # neighbours more than wanted that are kept until all are compared again

Item = TypeVar("Item")


class VerifyConfig(Config):
    """Settings of the verification."""

    geometry: GeometryConfig = GeometryConfig()
    kinds: tuple[Kind, ...] = KINDS  # of points that are compared
    # Exponent of what patches say: 1 found as many drawn seals, but fewer antelopes, whose coats no network has learnt
    patch_weight: float = Field(default=0.5, ge=0)
    crops: int = Field(default=8, gt=0)  # of an encounter that are compared, evenly spread
    neighbours: int = Field(default=3, gt=0)  # that a point votes for; the next one is the background
    maps: int = Field(default=20, ge=0)  # crops for which a crop of the query seeks a map, those with most votes
    shortlist: int = Field(default=100, gt=0)  # individuals, the nearest by Fisher vector, that are verified


@dataclass(frozen=True)
class Evidence:
    """For E encounters: `score` (E,), 0 where there is no vote, and `inliers` (E,) int, 0 where there is no map. Of one
    kind of points the score is that of the best pair of crops, votes x (1 + inliers), and the inliers are those of the
    best map."""

    score: np.ndarray
    inliers: np.ndarray

    def cost(self, distance: np.ndarray) -> np.ndarray:
        """What encounters are ordered by (E,), less is nearer: the score, then the `distance` (E,) of those without."""
        return np.where(self.score > 0, -self.score, distance)


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` of the items, evenly spread."""
    return [items[i * len(items) // limit] for i in range(limit)] if len(items) > limit else list(items)


class Verifier:
    """Holds the crops of a gallery's E encounters against those of one query."""

    def __init__(self, gallery: Iterable[Sequence[Features]], config: VerifyConfig) -> None:
        self.config = config
        self.gallery = [list(crops) for crops in gallery]
        self.kinds = [Voting(kind, self.gallery, config) for kind in config.kinds]

    def __call__(self, query: Sequence[Features], compared: np.ndarray) -> Evidence:
        """Evidence for each of the `compared` (E,) bool encounters from the crops of a query; of others 0.

        Scores multiply as (1 + that of marks) (1 + that of patches)^weight - 1: neither is needed, and both count by
        their logarithm.
        """
        every = {voting.kind: voting(query, compared) for voting in self.kinds}
        powers = [(1 + e.score) ** (self.config.patch_weight if kind == "patches" else 1) for kind, e in every.items()]
        return Evidence(np.prod(powers, axis=0) - 1, np.sum([e.inliers for e in every.values()], axis=0))

    def best_pair(self, query: Sequence[Features], encounter: int) -> tuple[Features, Features, Match]:
        """The pair of crops of a query and of an encounter of the gallery with most inliers of one kind, the first of
        equals."""
        pairs = [
            (a, b, geometry.match(a, b, self.config.geometry, kind))
            for kind in self.config.kinds for a in query for b in self.gallery[encounter]
        ]  # fmt: skip
        return max(pairs, key=lambda pair: pair[2].inliers)


class Voting:
    """The points of one kind of a gallery's encounters."""

    def __init__(self, kind: Kind, gallery: Sequence[Sequence[Features]], config: VerifyConfig) -> None:
        self.kind, self.config = kind, config
        pairs = [(e, f) for e, crops in enumerate(gallery) for f in crops if len(f.points(kind).at)]
        self.crops = [f for _, f in pairs]
        self.encounter = np.array([e for e, _ in pairs], int)
        every = [f.points(kind).descriptors for f in self.crops]
        self.owner = np.repeat(np.arange(len(every)), [len(d) for d in every])
        self.descriptors = np.concatenate(every) if every else np.zeros((0, 0), np.float16)
        # In bfloat16 where the processor computes in it, several times faster: all are compared with every query.
        self.dtype = torch.bfloat16 if has_bfloat16(torch.device("cpu")) else torch.float32
        self.coarse = torch.empty(self.descriptors.shape, dtype=self.dtype)
        for part in range(0, len(self.coarse), BLOCK):
            block = geometry.unit(self.descriptors[part : part + BLOCK])
            self.coarse[part : part + BLOCK] = torch.from_numpy(block).to(self.dtype)

    def __call__(self, query: Sequence[Features], compared: np.ndarray) -> Evidence:
        found = Evidence(np.zeros(len(compared)), np.zeros(len(compared), int))
        rows = np.flatnonzero(compared[self.encounter][self.owner])
        for crop, votes in zip(query, self.votes(query, rows), strict=True):
            inliers = np.zeros(len(votes), int)
            for k in np.argsort(-votes, kind="stable")[: self.config.maps]:
                if votes[k] > 0:
                    inliers[k] = geometry.match(crop, self.crops[k], self.config.geometry, self.kind).inliers
            np.maximum.at(found.score, self.encounter, votes * (1 + inliers))
            np.maximum.at(found.inliers, self.encounter, inliers)
        return found

    def votes(self, query: Sequence[Features], rows: np.ndarray) -> list[np.ndarray]:
        """Votes (crops,) of the points of each crop of a query, among the gallery's descriptors `rows` (n,)."""
        result = [np.zeros(len(self.crops)) for _ in query]
        neighbours = min(self.config.neighbours, len(rows) - 1)
        mine = [crop.points(self.kind).descriptors for crop in query]
        sizes = [len(d) for d in mine]
        if neighbours < 1 or not sum(sizes):
            return result
        descriptors = np.concatenate([geometry.unit(d) for d in mine if len(d)])
        similarity, place = self._nearest(descriptors, rows, neighbours + 1)
        # Squared distances of vectors of length 1; the last one is the background's.
        gain = 2 * (similarity[:, :-1] - similarity[:, -1:])
        begin = 0
        for votes, size in zip(result, sizes, strict=True):
            part = slice(begin, begin + size)
            np.add.at(votes, self.owner[rows[place[part, :-1]]], gain[part])
            begin += size
        return result

    @torch.inference_mode()
    def _nearest(self, queries: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Similarities and places in `rows` (m, k) of the k descriptors nearest to each of (m, d), nearest first.

        Block by block, since all similarities would be too many to keep, and coarsely; a few more than k are kept, and
        compared again in full precision.
        """
        x, chosen = torch.from_numpy(queries).to(self.dtype), torch.from_numpy(rows)
        best = torch.zeros(len(x), 0)
        place = torch.zeros(len(x), 0, dtype=torch.long)
        for start in range(0, len(rows), BLOCK):
            block = self.coarse[chosen[start : start + BLOCK]]
            similarity, found = (x @ block.T).topk(min(k + SPARE, len(block)), dim=1)
            best, place = torch.cat([best, similarity.float()], 1), torch.cat([place, found + start], 1)
            best, order = best.topk(min(k + SPARE, best.shape[1]), dim=1)
            place = place.gather(1, order)
        kept = geometry.unit(self.descriptors[rows[place.numpy().ravel()]]).reshape(*place.shape, -1)
        exact, order = torch.from_numpy(np.einsum("md,mkd->mk", queries, kept)).topk(k, dim=1)
        return exact.numpy(), place.gather(1, order).numpy()
