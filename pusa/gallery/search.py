"""Exact search: the individuals whose encounters are nearest to a query by cosine distance (paper, "Fisher vector"),
and, where key points are compared, those with most evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pusa.gallery.geometry import Features
from pusa.gallery.verify import Verifier
from pusa.records import CANDIDATES

BLOCK = 256  # vectors converted to float32 at once: 134 MB at 131,072 numbers


Watch = Callable[[Sequence[Any]], Iterable[Any]]  # what goes through a sequence and shows how far it is


@dataclass(frozen=True)
class Vectors:
    """What a search needs of a gallery: its E encounters with a vector and a name, in order of their key."""

    runs: list[str]
    encounter_ids: list[str]
    individuals: list[str]
    fisher: np.ndarray  # (E, 2 K D) float16
    about: pa.Table | None = None  # sequence_id, n_patches, taken_from


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

    Computed in float32 block by block: memory beyond the arguments and the result does not grow with them.
    """
    result = np.empty((len(queries), len(gallery)), np.float32)
    for i in range(0, len(queries), BLOCK):
        block = _unit(queries[i : i + BLOCK])
        for j in range(0, len(gallery), BLOCK):
            result[i : i + BLOCK, j : j + BLOCK] = 1 - (block @ _unit(gallery[j : j + BLOCK]).T).numpy()
    return result.clip(0, 2, out=result)


def _unit(vectors: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(vectors.astype(np.float32))
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)


def by_individual(distance: np.ndarray, individuals: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Reduces distances (n, E) to encounters of `individuals` (E) to distances to I individuals, each by its nearest.

    Returns the names (I, sorted), the distances (n, I), and the encounter that each is taken from (n, I), the first
    on ties.
    """
    names, labels = np.unique(np.asarray(individuals, object).astype(str), return_inverse=True)
    best = np.empty((len(distance), len(names)), distance.dtype)
    nearest = np.empty(best.shape, np.intp)
    for k in range(len(names)):
        members = np.flatnonzero(labels == k)
        nearest[:, k] = members[distance[:, members].argmin(1)]
        best[:, k] = np.take_along_axis(distance, nearest[:, k : k + 1], 1)[:, 0]
    return names.tolist(), best, nearest


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
    individuals that are nearest by distance (`VerifyConfig.shortlist`). A vector of zeros is compared with nothing.
    """
    cost = distances(queries, gallery.fisher)
    distance = cost.copy()
    cost[~allowed] = np.inf
    cost[~queries.any(axis=1)] = cost[:, ~gallery.fisher.any(axis=1)] = np.inf
    names, best, nearest = by_individual(cost, gallery.individuals)
    if verifier is None:
        return Comparison(names, best, nearest, np.take_along_axis(distance, nearest, 1))
    owner = np.searchsorted(names, gallery.individuals)
    score, inliers = np.zeros(cost.shape), np.zeros(cost.shape, int)
    for i, own in enumerate(crops):
        short = np.zeros(len(names), bool)
        short[best[i].argsort(kind="stable")[: verifier.config.shortlist]] = True
        compared = np.isfinite(cost[i])
        found = verifier(own, compared & short[owner])
        cost[i] = np.where(compared, found.cost(cost[i]), np.inf)
        score[i], inliers[i] = found.score, found.inliers
    names, best, nearest = by_individual(cost, gallery.individuals)
    return Comparison(names, best, nearest, *(np.take_along_axis(x, nearest, 1) for x in (distance, score, inliers)))


def rank(
    encounter_ids: Sequence[str],
    found: Comparison,
    top: int = 5,
    probability: np.ndarray | None = None,
    new: np.ndarray | None = None,
) -> Ranking:
    """The `top` nearest individuals of each query encounter `encounter_ids` (n,).

    With the `probability` (n, I) of each individual, and of being `new` (n,), the most probable ones. Among equal ones
    the name that sorts first leads. A query gets fewer rows where fewer individuals could be compared.
    """
    cost = found.cost if probability is None else np.where(np.isfinite(found.cost), -probability, np.inf)
    order = cost.argsort(1, kind="stable")[:, :top]
    query, place = np.nonzero(np.isfinite(np.take_along_axis(cost, order, 1)))
    chosen = query, order[query, place]
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


def same_encounter(run: str, encounter_ids: Sequence[str], gallery: Vectors) -> np.ndarray:
    """Marks (n, E) where a gallery encounter is the query itself: leave-one-out for queries that are enrolled."""
    keys = np.array([f"{r}\0{e}" for r, e in zip(gallery.runs, gallery.encounter_ids, strict=True)], object)
    queries = np.array([f"{run}\0{e}" for e in encounter_ids], object)
    return queries[:, None] == keys
