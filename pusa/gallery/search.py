"""Search: the individuals whose encounters are nearest to a query by cosine distance (paper, "Fisher vector"), and,
where points are compared, those with most evidence.

Small galleries are searched exactly. Of large ones compact codes stay in memory; the encounters that are nearest by
their codes are compared again by their vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pusa.gallery import codes
from pusa.gallery.geometry import Features
from pusa.gallery.journal import Key
from pusa.gallery.verify import Verifier
from pusa.records import CANDIDATES

BLOCK = 128  # vectors converted to float64 at once: 134 MB at 131,072 numbers


Watch = Callable[[Sequence[Any]], Iterable[Any]]  # what goes through a sequence and shows how far it is


@dataclass(frozen=True)
class Vectors:
    """What a search needs of a gallery: its E encounters with a vector and a name, in order of their key."""

    runs: list[str]
    encounter_ids: list[str]
    individuals: list[str]
    fisher: np.ndarray  # (E, 2 K D) float16
    about: pa.Table | None = None  # sequence_id, place, taken_from, taken_to, side, n_patches

    @cached_property
    def owners(self) -> Owners:
        return Owners.of(self.individuals)

    @cached_property
    def places(self) -> dict[Key, int]:
        """The place of each encounter, by (run, encounter_id)."""
        return {key: i for i, key in enumerate(zip(self.runs, self.encounter_ids, strict=True))}

    def costs(self, queries: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of queries (n, L) and encounters: distances (n, E), and the same with inf where they cannot be compared: not
        `allowed` (n, E) bool, or a vector of zeros."""
        distance = distances(queries, self.fisher)
        cost = np.where(allowed, distance, np.float32(np.inf))
        cost[~queries.any(axis=1)] = cost[:, ~self.fisher.any(axis=1)] = np.inf
        return distance, cost


@dataclass(frozen=True)
class Coded(Vectors):
    """Encounters of which only codes (E, BYTES) are in memory, and `fisher` is empty. `read`: the vectors of some
    places (m,), of the `shortlist` encounters that are nearest to a query by their codes."""

    codes: np.ndarray = field(default_factory=lambda: np.zeros((0, codes.BYTES), np.uint8))
    shortlist: int = 40
    read: Callable[[np.ndarray], np.ndarray] = field(default=lambda places: np.zeros((0, 0), np.float16))

    def costs(self, queries: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As of `Vectors`; but distances are those of the codes, save for the shortlist. No other encounter is nearer
        than one on the shortlist: a distance read off a code is only about right."""
        distance = codes.distances(codes.codes(queries), self.codes)
        cost = np.where(allowed, distance, np.float32(np.inf))
        cost[~queries.any(axis=1)] = np.inf
        for query, own, cost_of in zip(queries, distance, cost, strict=True):
            short = least(cost_of, self.shortlist)
            if not len(short):
                continue
            exact = distances(query[None], self.read(short))[0]
            np.maximum(own, exact.max(), out=own)
            own[short] = exact
            np.copyto(cost_of, own, where=np.isfinite(cost_of))
        return distance, cost


@dataclass(frozen=True)
class Comparison:
    """n queries held against I individuals, `names` (sorted). Of each pair, (n, I): `cost`, less is nearer, inf where
    they were not compared; and of the encounter that stands for the individual, its nearest: `encounter`, its place
    among those searched, `distance`, and from key points `score` and `inliers`, 0 where none were compared."""

    names: list[str]
    cost: np.ndarray
    encounter: np.ndarray
    distance: np.ndarray
    score: np.ndarray | None = None
    inliers: np.ndarray | None = None

    def of(self, queries: np.ndarray) -> Comparison:
        """The same of some queries only, (n,) bool."""
        arrays = (self.cost, self.encounter, self.distance, self.score, self.inliers)
        return Comparison(self.names, *(None if x is None else x[queries] for x in arrays))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Ranking:
    """`candidates`: rows of `records.CANDIDATES`, by query and rank. `nearest`: for each row the place in the searched
    `Vectors` of the encounter that names the individual."""

    candidates: pa.Table
    nearest: np.ndarray


@torch.inference_mode()
def distances(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Cosine distances (n, E) float32, 0 to 2, of vectors (n, L) to vectors (E, L); of a zero vector, 1.

    Computed block by block: memory beyond the arguments and the result does not grow with them. In float64, so that
    the last bit of a distance does not depend on what else is asked at the same time.
    """
    result = np.empty((len(queries), len(gallery)), np.float32)
    for i in range(0, len(queries), BLOCK):
        block, length = _double(queries[i : i + BLOCK])
        for j in range(0, len(gallery), BLOCK):
            other, others = _double(gallery[j : j + BLOCK])
            result[i : i + BLOCK, j : j + BLOCK] = 1 - ((block @ other.T) / (length[:, None] * others)).numpy()
    return result.clip(0, 2, out=result)


def least(cost: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` least of costs (E,), least first, the first of equals; fewer where the others are inf."""
    places = np.arange(len(cost))
    if count < len(cost):
        places = np.flatnonzero(cost <= np.partition(cost, count - 1)[count - 1])
    places = places[np.isfinite(cost[places])]
    return places[np.argsort(cost[places], kind="stable")][:count]


def _double(vectors: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (n, L) in float64, and their lengths (n,)."""
    x = torch.from_numpy(vectors).double()  # NumPy takes ten times as long
    return x, x.norm(dim=1).clamp(min=1e-12)


@dataclass(frozen=True)
class Owners:
    """Whose the E encounters of a gallery are: `names` of I individuals (sorted), the place of its owner among them
    (E,), the encounters in `order` of their owner (E,), and where in that order each individual `starts` (I,)."""

    names: list[str]
    owner: np.ndarray
    order: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, individuals: Sequence[str]) -> Owners:
        """From the name of each encounter's individual (E,)."""
        names, owner = np.unique(np.asarray(individuals, object).astype(str), return_inverse=True)
        order = np.argsort(owner, kind="stable")
        return cls(names.tolist(), owner, order, np.searchsorted(owner[order], np.arange(len(names))))

    def least(self, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reduces costs (n, E) of encounters to costs (n, I) of individuals, each by its nearest encounter, and says
        which that is (n, I), the first on ties."""
        if not self.names:
            return np.empty((len(cost), 0), cost.dtype), np.empty((len(cost), 0), np.intp)
        mine, places = cost[:, self.order], np.arange(len(self.order))
        best = np.minimum.reduceat(mine, self.starts, axis=1)
        of_each = np.repeat(best, np.diff(self.starts, append=len(places)), axis=1)
        first = np.minimum.reduceat(np.where(mine == of_each, places, len(places)), self.starts, axis=1)
        return best, self.order[first]


def compare(
    queries: np.ndarray,
    gallery: Vectors,
    allowed: np.ndarray,
    crops: Iterable[Sequence[Features]] = (),
    verifier: Verifier | None = None,
) -> Comparison:
    """Holds queries, Fisher vectors (n, L), against the encounters of a gallery that they may be compared with,
    `allowed` (n, E) bool.

    With a `verifier` of the gallery's crops, evidence from the `crops` of each query goes before the distance, for the
    individuals that are nearest by distance (`VerifyConfig.shortlist`) and their nearest encounters
    (`VerifyConfig.encounters`). A vector of zeros is compared with nothing.
    """
    distance, cost = gallery.costs(queries, allowed)
    owners = gallery.owners
    best, encounter = owners.least(cost)
    if verifier is None:
        return Comparison(owners.names, best, encounter, np.take_along_axis(distance, encounter, 1))
    score, inliers = np.zeros(cost.shape), np.zeros(cost.shape, int)
    for i, own in enumerate(crops):
        short = np.zeros(len(owners.names), bool)
        short[least(best[i], verifier.config.shortlist)] = True
        verified = np.zeros(len(owners.owner), bool)
        verified[least(np.where(short[owners.owner], cost[i], np.inf), verifier.config.encounters)] = True
        found = verifier(own, verified)
        cost[i] = np.where(np.isfinite(cost[i]), found.cost(cost[i]), np.inf)
        score[i], inliers[i] = found.score, found.inliers
    best, encounter = owners.least(cost)
    arrays = (np.take_along_axis(x, encounter, 1) for x in (distance, score, inliers))
    return Comparison(owners.names, best, encounter, *arrays)


def rank(
    encounter_ids: Sequence[str],
    found: Comparison,
    top: int = 5,
    probability: np.ndarray | None = None,
    new: np.ndarray | None = None,
) -> Ranking:
    """The `top` nearest individuals of each query encounter `encounter_ids` (n,).

    With the `probability` (n, I) of each individual, and of being `new` (n,), the most probable ones, and of equally
    probable ones, such as those without a vote, the nearest. Among equal ones the name that sorts first leads. A query
    gets fewer rows where fewer individuals could be compared.
    """
    cost = found.cost
    if probability is not None:
        places = np.argsort(np.lexsort((cost, -probability)), axis=1)
        cost = np.where(np.isfinite(cost), places, np.inf)
    first = [least(row, top) for row in cost]
    query = np.repeat(np.arange(len(first)), [len(f) for f in first])
    place = np.concatenate([np.arange(0), *(np.arange(len(f)) for f in first)])
    chosen = query, np.concatenate([np.arange(0), *first])
    columns = {
        "encounter_id": [encounter_ids[int(i)] for i in query],
        "rank": place + 1,
        "individual": [found.names[i] for i in chosen[1]],
        "distance": found.distance[chosen],
    }
    if found.inliers is not None:
        columns["inliers"] = found.inliers[chosen]
    if probability is not None and new is not None:
        columns |= {"probability": probability[chosen], "new_probability": new[query]}
    empty = [None] * len(query)
    arrays = [pa.array(columns.get(f.name, empty), f.type) for f in CANDIDATES]
    return Ranking(pa.table(arrays, schema=CANDIDATES), found.encounter[chosen])
