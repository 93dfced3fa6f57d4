"""Exact search: the individuals whose encounters are nearest to a query by cosine distance (paper, "Fisher vector")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from pusa.gallery.verify import Evidence
from pusa.records import CANDIDATES

if TYPE_CHECKING:  # LanceDB and a process that starts Ray do not go well together
    from pusa.gallery.store import Vectors

BLOCK = 256  # vectors converted to float32 at once: 134 MB at 131,072 numbers


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


def rank(
    encounter_ids: Sequence[str],
    queries: np.ndarray,
    gallery: Vectors,
    top: int = 5,
    exclude: np.ndarray | None = None,
    evidence: Sequence[Evidence] | None = None,
) -> Ranking:
    """The `top` nearest individuals of each query encounter; an individual is as near as its nearest encounter.

    `queries` is (n, L), the Fisher vectors of `encounter_ids`. `exclude` (n, E) bool marks gallery encounters that a
    query must not be compared with, such as itself (see `same_encounter`). `evidence` of each query, from the
    verification, goes before the distance (`Evidence.cost`). Among equal ones the name that sorts first leads. A query
    gets fewer rows where fewer individuals are left.
    """
    if not len(queries) or not gallery.individuals:
        return Ranking(CANDIDATES.empty_table(), np.zeros(0, np.intp))
    distance = distances(queries, gallery.fisher)
    cost = distance if evidence is None else np.stack(
        [e.cost(d) for e, d in zip(evidence, distance, strict=True)]
    )  # fmt: skip
    if exclude is not None:
        cost[exclude] = np.inf
    names, best, nearest = by_individual(cost, gallery.individuals)
    order = best.argsort(1, kind="stable")[:, :top]
    query, place = np.nonzero(np.isfinite(np.take_along_axis(best, order, 1)))
    chosen = order[query, place]
    encounter = nearest[query, chosen]
    columns = {
        "encounter_id": [encounter_ids[int(i)] for i in query],
        "rank": place + 1,
        "individual": [names[i] for i in chosen],
        "distance": distance[query, encounter],
    }
    if evidence is not None:
        columns["inliers"] = [int(evidence[int(i)].inliers[e]) for i, e in zip(query, encounter, strict=True)]
    empty = [None] * len(query)
    arrays = [pa.array(columns.get(f.name, empty), f.type) for f in CANDIDATES]
    return Ranking(pa.table(arrays, schema=CANDIDATES), encounter)


def same_encounter(run: str, encounter_ids: Sequence[str], gallery: Vectors) -> np.ndarray:
    """Marks (n, E) where a gallery encounter is the query itself: leave-one-out for queries that are enrolled."""
    keys = np.array([f"{r}\0{e}" for r, e in zip(gallery.runs, gallery.encounter_ids, strict=True)], object)
    queries = np.array([f"{run}\0{e}" for e in encounter_ids], object)
    return queries[:, None] == keys
