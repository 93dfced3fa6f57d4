"""Verification of candidates: evidence for each encounter of a gallery that it shows the animal of a query.

Each key point of the query votes for the crops in which its nearest neighbours lie, the more the nearer they are than a
point of the background (local naive Bayes nearest neighbour, McCann 2012; HotSpotter, Crall 2013). The crops with most
votes are held against the query's geometry: the inliers of one map are what another animal rarely has.
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
from pusa.gallery.geometry import Features, GeometryConfig, Match

BLOCK = 4096  # descriptors of a gallery compared at once: with all of a query's it stays in the cache
SPARE = 4  # neighbours more than wanted that are kept until all are compared again

Item = TypeVar("Item")


class VerifyConfig(Config):
    """Settings of the verification."""

    geometry: GeometryConfig = GeometryConfig()
    crops: int = Field(default=8, gt=0)  # of an encounter that are compared, evenly spread
    neighbours: int = Field(default=3, gt=0)  # that a key point votes for; the next one is the background
    maps: int = Field(default=20, ge=0)  # crops for which a crop of the query seeks a map, those with most votes
    shortlist: int = Field(default=100, gt=0)  # individuals, the nearest by Fisher vector, that are verified


@dataclass(frozen=True)
class Evidence:
    """For E encounters: `score` (E,) of the best pair of crops, votes x (1 + inliers), 0 where there is no vote; and
    `inliers` (E,) int of the best map, 0 where there is none."""

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
        pairs = [(e, f) for e, crops in enumerate(gallery) for f in crops if len(f.points)]
        self.crops = [f for _, f in pairs]
        self.encounter = np.array([e for e, _ in pairs], int)
        sizes = [len(f.points) for f in self.crops]
        self.owner = np.repeat(np.arange(len(sizes)), sizes)
        every = [np.zeros((0, geometry.LENGTH), np.uint8), *(f.descriptors for f in self.crops)]
        self.descriptors = np.concatenate(every)

    def __call__(self, query: Sequence[Features], compared: np.ndarray) -> Evidence:
        """Evidence for each of the `compared` (E,) bool encounters from the crops of a query; of others 0."""
        found = Evidence(np.zeros(len(compared)), np.zeros(len(compared), int))
        rows = np.flatnonzero(compared[self.encounter][self.owner])
        for crop, votes in zip(query, self.votes(query, rows), strict=True):
            inliers = np.zeros(len(votes), int)
            for k in np.argsort(-votes, kind="stable")[: self.config.maps]:
                if votes[k] > 0:
                    inliers[k] = geometry.match(crop, self.crops[k], self.config.geometry).inliers
            np.maximum.at(found.score, self.encounter, votes * (1 + inliers))
            np.maximum.at(found.inliers, self.encounter, inliers)
        return found

    def best_pair(self, query: Sequence[Features], encounter: int) -> tuple[Features, Features, Match]:
        """The pair of crops of a query and of an encounter of the gallery with most inliers, the first of equals."""
        mine = [self.crops[k] for k in np.flatnonzero(self.encounter == encounter)]
        pairs = [(a, b, geometry.match(a, b, self.config.geometry)) for a in query for b in mine]
        return max(pairs, key=lambda pair: pair[2].inliers)

    def votes(self, query: Sequence[Features], rows: np.ndarray) -> list[np.ndarray]:
        """Votes (crops,) of the key points of each crop of a query, among the gallery's descriptors `rows` (n,)."""
        result = [np.zeros(len(self.crops)) for _ in query]
        neighbours = min(self.config.neighbours, len(rows) - 1)
        sizes = [len(crop.points) for crop in query]
        if neighbours < 1 or not sum(sizes):
            return result
        descriptors = geometry.root_sift(np.concatenate([crop.descriptors for crop in query]))
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
        """Similarities and places in `rows` (m, k) of the k descriptors nearest to each of (m, 128), nearest first.

        Block by block, since all similarities would be too many to keep, and in bfloat16 where the processor computes
        in it, several times faster; a few more than k are kept, and compared again in full precision.
        """
        kind = torch.bfloat16 if has_bfloat16(torch.device("cpu")) else torch.float32
        x = torch.from_numpy(queries).to(kind)
        best = torch.zeros(len(x), 0)
        place = torch.zeros(len(x), 0, dtype=torch.long)
        for start in range(0, len(rows), BLOCK):
            block = torch.from_numpy(geometry.root_sift(self.descriptors[rows[start : start + BLOCK]])).to(kind)
            similarity, found = (x @ block.T).float().topk(min(k + SPARE, len(block)), dim=1)
            best, place = torch.cat([best, similarity], 1), torch.cat([place, found + start], 1)
            best, order = best.topk(min(k + SPARE, best.shape[1]), dim=1)
            place = place.gather(1, order)
        kept = geometry.root_sift(self.descriptors[rows[place.numpy().ravel()]]).reshape(*place.shape, -1)
        exact, order = torch.from_numpy(np.einsum("md,mkd->mk", queries, kept)).topk(k, dim=1)
        return exact.numpy(), place.gather(1, order).numpy()
