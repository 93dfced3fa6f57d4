"""Assignment of the instances of one sequence to groups, one group an individual.

The paper, section "Individual grouping":
1. The photo with the most instances (the earliest of them) starts one group per instance.
2. The other photos follow in chronological order. For each of their instances: the distance to every seal grouped so
   far, averaged per group.
3. Of all (instance, group) pairs of the photo, the one of the smallest mean distance is assigned; both are struck.
4. Step 3 is repeated until the photo has no unassigned instance.
5. Steps 2 to 4 are repeated to the last photo.

So there are as many groups as the fullest photo has instances, and a group has at most one instance of a photo. An
animal that is not in the fullest photo is forced into a foreign group: the known weakness of this method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pusa.config import Config
from pusa.errors import UserError

Choose = Callable[[NDArray[np.float64]], NDArray[np.intp]]


class GroupingConfig(Config):
    """Settings of the assignment."""

    method: Literal["greedy", "optimal"] = (
        "greedy"  # greedy: the paper; optimal: step 3 as the cheapest one-to-one assignment
    )


def group(photos: Sequence[np.ndarray], config: GroupingConfig) -> list[list[int]]:
    """The groups of one sequence by the method of `config`. Arguments, result and errors: see `greedy`."""
    return {"greedy": greedy, "optimal": optimal}[config.method](photos)


def greedy(photos: Sequence[np.ndarray]) -> list[list[int]]:
    """The paper's algorithm, exactly.

    `photos` holds one array (n_i, d) a photo, in chronological order: the descriptors of its instances, n_i >= 0. The
    result has the same shape: the group of each instance, numbered by the instances of the fullest photo. Distances
    are Euclidean (the paper says "distance"). Among equal mean distances the lowest instance goes first, to the lowest
    group. Raises UserError for descriptors that differ in length or are not finite.
    """
    return _assign(photos, _smallest_first)


def optimal(photos: Sequence[np.ndarray]) -> list[list[int]]:
    """As `greedy`, but each photo takes the assignment of the smallest *sum* of mean distances (Hungarian method)."""
    return _assign(photos, lambda cost: linear_sum_assignment(cost)[1])


def _assign(photos: Sequence[np.ndarray], choose: Choose) -> list[list[int]]:
    photos = _checked(photos)
    groups: list[list[int]] = [[] for _ in photos]
    counts = [len(descriptors) for descriptors in photos]
    if not any(counts):
        return groups
    first = int(np.argmax(counts))  # the earliest of the fullest
    order = [first, *(i for i in range(len(photos)) if i != first)]
    descriptors = np.concatenate([photos[i] for i in order if counts[i]])
    labels = np.zeros(len(descriptors), np.intp)
    squared = (descriptors**2).sum(1)
    end = 0  # so many instances are grouped
    for i in order:
        begin, end = end, end + counts[i]
        if i == first:
            labels[:end] = np.arange(end)
        elif begin < end:
            # Euclidean distances (n, grouped so far) through scalar products: 20 times faster than differences.
            products = descriptors[begin:end] @ descriptors[:begin].T
            distances = np.sqrt(np.maximum(squared[begin:end, None] + squared[:begin] - 2 * products, 0))
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
