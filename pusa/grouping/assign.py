"""Assignment of the instances of one sequence to groups, one group an individual.

The paper, section "Individual grouping":
1. The photo with the most instances (the earliest of them) starts one group per instance.
2. The other photos follow in chronological order. For each of their instances: the distance to every seal grouped so
   far, averaged per group.
3. Of all (instance, group) pairs of the photo, the one of the smallest mean distance is assigned; both are struck.
4. Step 3 is repeated until the photo has no unassigned instance.
5. Steps 2 to 4 are repeated to the last photo.

So there are as many groups as the fullest photo has instances, and a group has at most one instance of a photo. An
animal that is not in the fullest photo is forced into a foreign group: the known weakness of this method. `open_` lets
an instance start a group of its own; `agglomerative` looks at the whole sequence at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, squareform

from pusa.config import Config
from pusa.errors import UserError

NEVER = 1e3  # a distance beyond all, times N^2 of them
USUAL_PAIRS = 10  # that the usual distance between strangers weighs as much as

Choose = Callable[[NDArray[np.float64]], NDArray[np.intp]]


class GroupingConfig(Config):
    """Settings of the assignment. Distances are Euclidean, between descriptors of length 1: 0 to 2."""

    # greedy: the paper's. optimal: its step 3 as the cheapest one-to-one assignment. open: an instance may start a new
    # group. agglomerative: the nearest groups are joined, two instances of one photo never. The last two do not need an
    # animal to be in the fullest photo
    method: Literal["greedy", "optimal", "open", "agglomerative"] = "agglomerative"
    # Of open and agglomerative: the mean distance from which on groups stay apart, as a share of the distance between
    # strangers: the median over pairs of one photo, which are two animals for certain. So it holds for any descriptor
    threshold: float = Field(default=0.84, gt=0)
    # That distance between descriptors, as one usually finds it (0.95 without whitening); it weighs as much as 10 pairs
    strangers: float = Field(default=1.35, gt=0)
    # Added to the distance of instances whose boxes lie a box's size apart or more, in proportion where they lie
    # nearer: animals on land move little. 0: descriptors alone, as in the paper
    position: float = Field(default=0.3, ge=0)


def group(
    photos: Sequence[np.ndarray], config: GroupingConfig, boxes: Sequence[np.ndarray] | None = None
) -> list[list[int]]:
    """The groups of one sequence by the method of `config`. Photos, result and errors: see `greedy`. `boxes`: of the
    same instances, (n_i, 4) x0, y0, x1, y1; needed where position counts."""
    apart = None
    if config.position and boxes is not None:
        apart = config.position * displacement(np.concatenate([np.reshape(b, (-1, 4)) for b in boxes]))
    if config.method in ("greedy", "optimal"):
        return {"greedy": greedy, "optimal": optimal}[config.method](photos, apart)
    distances, owner = _distances(photos, apart)
    usual = config.strangers + (config.position if apart is not None else 0)
    threshold = config.threshold * between_strangers(_of_one_photo(distances, owner), usual)
    return _by_photo({"open": _open, "agglomerative": _agglomerate}[config.method](distances, owner, threshold), photos)


def within_photos(photos: Sequence[np.ndarray], apart: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """The distances of all pairs of instances of one photo."""
    return _of_one_photo(*_distances(photos, apart))


def between_strangers(known: NDArray[np.float64], usual: float) -> float:
    """The distance between two animals: the median of the `known` ones, drawn to the `usual` one where they are few. A
    seal detected twice in its photo is no pair of strangers, and without others it would set the measure alone."""
    median = float(np.median(known)) if len(known) else 0.0
    return (len(known) * median + USUAL_PAIRS * usual) / (len(known) + USUAL_PAIRS)


def displacement(boxes: np.ndarray) -> NDArray[np.float64]:
    """How far boxes (n, 4) lie apart, (n, n) from 0 to 1: between middles, in their mean size (root of the area)."""
    boxes = np.asarray(boxes, np.float64)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1), axis=1))
    return np.minimum(cdist(middle, middle) / ((size[:, None] + size) / 2), 1)


def greedy(photos: Sequence[np.ndarray], apart: NDArray[np.float64] | None = None) -> list[list[int]]:
    """The paper's algorithm, exactly.

    `photos` holds one array (n_i, d) a photo, in chronological order: the descriptors of its instances, n_i >= 0. The
    result has the same shape: the group of each instance, numbered by the instances of the fullest photo. Distances
    are Euclidean (the paper says "distance"); `apart` (N, N) is added to those of the N instances, photo by photo.
    Among equal mean distances the lowest instance goes first, to the lowest group. Raises UserError for descriptors
    that differ in length or are not finite.
    """
    return _assign(photos, _smallest_first, apart)


def optimal(photos: Sequence[np.ndarray], apart: NDArray[np.float64] | None = None) -> list[list[int]]:
    """As `greedy`, but each photo takes the assignment of the smallest *sum* of mean distances (Hungarian method)."""
    return _assign(photos, lambda cost: linear_sum_assignment(cost)[1], apart)


def open_(photos: Sequence[np.ndarray], threshold: float, apart: NDArray[np.float64] | None = None) -> list[list[int]]:
    """Photo by photo in chronological order, as `optimal`, but an instance may start a new group at the cost
    `threshold`: there may be more groups than the fullest photo has instances. Numbered in the order of appearance."""
    return _by_photo(_open(*_distances(photos, apart), threshold), photos)


def agglomerative(
    photos: Sequence[np.ndarray], threshold: float, apart: NDArray[np.float64] | None = None
) -> list[list[int]]:
    """All instances at once: again and again the two groups of the smallest mean distance are joined, until it exceeds
    `threshold`; groups that show one photo twice are never joined. Numbered in the order of appearance.

    N instances need 8 N^2 bytes, three times.
    """
    return _by_photo(_agglomerate(*_distances(photos, apart), threshold), photos)


def _open(distances: NDArray[np.float64], owner: NDArray[np.intp], threshold: float) -> NDArray[np.intp]:
    """The group of each of N instances, from all distances (N, N) and the photo of each (N,), in order."""
    labels = np.full(len(owner), -1)
    for k in np.unique(owner):
        mine, done = np.flatnonzero(owner == k), np.flatnonzero(labels >= 0)
        groups = labels.max(initial=-1) + 1
        in_group = labels[done, None] == np.arange(groups)
        cost = distances[np.ix_(mine, done)] @ in_group / in_group.sum(0)
        instances, chosen = linear_sum_assignment(np.hstack([cost, np.full((len(mine), len(mine)), threshold)]))
        fresh = chosen >= groups
        chosen[fresh] = groups + np.arange(fresh.sum())
        labels[mine[instances]] = chosen
    return labels


def _agglomerate(distances: NDArray[np.float64], owner: NDArray[np.intp], threshold: float) -> NDArray[np.intp]:
    """As `_open`; the distances are overwritten."""
    if len(owner) < 2:
        return np.zeros(len(owner), np.intp)
    # Mean linkage: a mean with one such pair among so many stays beyond every threshold, so the join never comes.
    distances[owner[:, None] == owner] = NEVER * len(owner) ** 2
    np.fill_diagonal(distances, 0)
    labels = fcluster(linkage(squareform(distances, checks=False), "average"), threshold, "distance")
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first.argsort().argsort()[inverse]


def _of_one_photo(distances: NDArray[np.float64], owner: NDArray[np.intp]) -> NDArray[np.float64]:
    return distances[np.triu(owner[:, None] == owner, 1)]


def _distances(
    photos: Sequence[np.ndarray], apart: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Distances (N, N) between all instances, photo by photo, and the photo (N,) of each."""
    checked = _checked(photos)
    owner = np.repeat(np.arange(len(checked)), [len(p) for p in checked])
    full = [p for p in checked if len(p)]
    x = np.concatenate(full) if full else np.zeros((0, 0))
    distances = _euclidean(x, x)
    return distances if apart is None else distances + apart, owner


def _euclidean(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances (n, m) of rows through scalar products: 20 times faster than differences. Of rows of one array NumPy
    computes only half of the products."""
    squares = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    return np.sqrt(np.maximum(squares - 2 * (a @ b.T), 0))


def _by_photo(labels: np.ndarray, photos: Sequence[np.ndarray]) -> list[list[int]]:
    return [part.tolist() for part in np.split(labels, np.cumsum([len(p) for p in photos])[:-1])] if photos else []


def _assign(photos: Sequence[np.ndarray], choose: Choose, apart: NDArray[np.float64] | None) -> list[list[int]]:
    photos = _checked(photos)
    groups: list[list[int]] = [[] for _ in photos]
    counts = [len(descriptors) for descriptors in photos]
    if not any(counts):
        return groups
    first = int(np.argmax(counts))  # the earliest of the fullest
    order = [first, *(i for i in range(len(photos)) if i != first)]
    starts = np.cumsum([0, *counts])
    rows = np.concatenate([np.arange(starts[i], starts[i] + counts[i]) for i in order])
    descriptors = np.concatenate([photos[i] for i in order if counts[i]])
    labels = np.zeros(len(descriptors), np.intp)
    end = 0  # so many instances are grouped
    for i in order:
        begin, end = end, end + counts[i]
        if i == first:
            labels[:end] = np.arange(end)
        elif begin < end:
            distances = _euclidean(descriptors[begin:end], descriptors[:begin])
            if apart is not None:
                distances += apart[np.ix_(rows[begin:end], rows[:begin])]
            in_group = labels[:begin, None] == np.arange(counts[first])
            labels[begin:end] = choose(distances @ in_group / in_group.sum(0))
        groups[i] = labels[begin:end].tolist()
    return groups


def _smallest_first(cost: NDArray[np.float64]) -> NDArray[np.intp]:
    """Steps 3 and 4 on the mean distances of one photo, (n, groups), n <= groups: the group of each instance."""
    cost = cost.copy()
    chosen = np.zeros(len(cost), np.intp)
    for _ in range(len(cost)):
        instance, group_ = np.unravel_index(np.argmin(cost), cost.shape)  # the first one in row order on ties
        chosen[instance] = group_
        cost[instance, :] = cost[:, group_] = np.inf
    return chosen


def _checked(photos: Sequence[np.ndarray]) -> list[NDArray[np.float64]]:
    lengths = sorted({p.shape[1] for p in photos if len(p)})
    if len(lengths) > 1:
        raise UserError(
            f"The descriptors of one sequence have different lengths ({', '.join(map(str, lengths))}): they come from "
            "different networks. Process the archive into a new folder."
        )
    converted = [np.asarray(p, np.float64) for p in photos]
    if not all(np.isfinite(p).all() for p in converted):
        raise UserError("A descriptor holds NaN or infinity: process the archive again, and report it if it stays.")
    return converted
