"""Re-identification measured on photographs of one animal each: by photo, and by sighting.

The two flanks of an animal are different patterns, so only photos of the same side are compared. A photo never competes
with the photos of its own sighting, which would be too easy. An individual that no other sighting shows on that side
cannot be found: such queries are dropped, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pusa import ranking


@dataclass(frozen=True)
class Found:
    """`ranks` of the queries, as `ranking.ranks` gives them (0: a miss at every n), and how many were `dropped`."""

    ranks: np.ndarray
    dropped: int


def by_photo(distance: np.ndarray, individual: np.ndarray, side: np.ndarray, sighting: np.ndarray) -> Found:
    """Each photo against all of its side from other sightings; an individual is as near as its nearest photo.

    `distance` is n x n; inf for a photo that has no vector. The other arrays are n texts.
    """
    compared = (side[:, None] == side) & (sighting[:, None] != sighting)
    names, true = np.unique(individual, return_inverse=True)
    nearest = np.stack([np.where(compared & (true == k), distance, np.inf).min(1) for k in range(len(names))], 1)
    findable = (compared & (true[:, None] == true)).any(1)
    return Found(ranking.ranks(nearest, true)[findable], int((~findable).sum()))


def by_sighting(distance: np.ndarray, individual: np.ndarray, side: np.ndarray, sighting: np.ndarray) -> Found:
    """Each sighting (its photos of all sides) against all others: per side the nearest pair, then the mean over the
    sides
    that the individual offers. Arguments as for `by_photo`."""
    names, true = np.unique(individual, return_inverse=True)
    rows, truth = [], []
    for s in np.unique(sighting):
        mine = sighting == s
        per_side = np.full((len(np.unique(side[mine])), len(names)), np.nan)
        for row, flank in enumerate(np.unique(side[mine])):
            pairs = distance[np.ix_(mine & (side == flank), ~mine & (side == flank))]
            owner = true[~mine & (side == flank)]
            for k in np.unique(owner):
                per_side[row, k] = pairs[:, owner == k].min()
        offered = ~np.isnan(per_side)
        total = np.where(offered, per_side, 0).sum(0)
        rows.append(np.where(offered.any(0), total / np.maximum(offered.sum(0), 1), np.nan))
        truth.append(true[mine][0])
    nearest, true_ = np.array(rows), np.array(truth)
    findable = ~np.isnan(nearest[np.arange(len(true_)), true_])
    return Found(ranking.ranks(nearest, true_)[findable], int((~findable).sum()))
