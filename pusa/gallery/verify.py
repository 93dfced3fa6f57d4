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

from pusa.config import Config
from pusa.gallery import geometry
from pusa.gallery.geometry import Features, GeometryConfig

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
        descriptors, owner = torch.from_numpy(geometry.root_sift(self.descriptors[rows])), self.owner[rows]
        for crop in query:
            votes = self.votes(crop, descriptors, owner)
            inliers = np.zeros(len(votes), int)
            for k in np.argsort(-votes, kind="stable")[: self.config.maps]:
                if votes[k] > 0:
                    inliers[k] = geometry.match(crop, self.crops[k], self.config.geometry).inliers
            np.maximum.at(found.score, self.encounter, votes * (1 + inliers))
            np.maximum.at(found.inliers, self.encounter, inliers)
        return found

    @torch.inference_mode()
    def votes(self, crop: Features, descriptors: torch.Tensor, owner: np.ndarray) -> np.ndarray:
        """Votes (crops,) of the key points of a crop, among `descriptors` (n, 128) of the crops `owner` (n,)."""
        result = np.zeros(len(self.crops))
        neighbours = min(self.config.neighbours, len(descriptors) - 1)
        if neighbours < 1 or not len(crop.points):
            return result
        similarity, place = (torch.from_numpy(geometry.root_sift(crop.descriptors)) @ descriptors.T).topk(
            neighbours + 1, dim=1
        )
        # Squared distances of vectors of length 1; the last one is the background's.
        gain = 2 * (similarity[:, :-1] - similarity[:, -1:]).numpy()
        np.add.at(result, owner[place[:, :-1].numpy()], gain)
        return result
