"""How well a ranking finds the true individual: top-n and mean average precision, with ties counted against the method.

Ties count against it because a method that gives everything the same distance must not score by the order of a list.
"""

from __future__ import annotations

import numpy as np

NOT_RANKED = 0  # rank of a true individual that could not be found at all: a miss at every n


def ranks(distance: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Rank (n,) of each query's true individual, 1 = nearest, from distances (n, I) to individuals.

    `truth` (n,) is the column of the true individual, -1 where the gallery does not have it. An infinite or NaN
    distance means "not compared". The rank is NOT_RANKED where there is no true individual to find: a protocol that
    leaves such queries out drops them, and says how many.
    """
    distance = np.where(np.isnan(distance), np.inf, distance)
    true = np.where(truth >= 0, distance[np.arange(len(truth)), truth], np.inf)
    nearer_or_tied = (distance <= true[:, None]).sum(1)  # the true one itself included
    return np.where(np.isfinite(true), nearer_or_tied, NOT_RANKED)


def top_n(ranks: np.ndarray, n: int) -> float:
    """Share of queries whose true individual is among the `n` nearest, 0 to 1. Raises ValueError for no query."""
    if not len(ranks):
        raise ValueError("there is no query to measure")
    return float(hits(ranks, n).mean())


def hits(ranks: np.ndarray, n: int) -> np.ndarray:
    """Whether each query's true individual is among the `n` nearest (bool)."""
    return (ranks != NOT_RANKED) & (ranks <= n)


def top_n_interval(ranks: np.ndarray, n: int, clusters: np.ndarray | None = None) -> tuple[float, float, float]:
    """`top_n` and its 95 % interval: queries, or whole `clusters` of them, are drawn anew."""
    found = hits(ranks, n)
    return float(found.mean()), *bootstrap_interval(found, np.random.default_rng(0), clusters)


def top_n_gain(ranks: np.ndarray, others: np.ndarray, n: int) -> tuple[float, float, float]:
    """By how much `top_n` is above that of `others`, another method's ranks of the same queries, and its 95 % interval:
    queries are drawn anew."""
    gain = hits(ranks, n).astype(float) - hits(others, n)
    return float(gain.mean()), *bootstrap_interval(gain, np.random.default_rng(0))


def average_precision(distance: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Average precision (n,) of each query over the gallery's encounters; mAP is its mean over queries.

    `distance` (n, E), not compared where infinite or NaN; `relevant` (n, E) bool: of the true individual. Mean, over
    the relevant encounters, of the precision at their place, the irrelevant ones of equal distance in front. NaN for
    a query without a relevant encounter to find.
    """
    distance = np.where(np.isnan(distance), np.inf, distance)
    result = np.full(len(distance), np.nan)
    for i, (row, right) in enumerate(zip(distance, relevant, strict=True)):
        compared = np.isfinite(row)
        row, right = row[compared], right[compared]
        if right.any():
            order = np.lexsort((right, row))  # by distance, then irrelevant before relevant
            found = right[order]
            result[i] = (np.cumsum(found) / np.arange(1, len(found) + 1))[found].mean()
    return result


def bootstrap_interval(
    values: np.ndarray,
    rng: np.random.Generator,
    clusters: np.ndarray | None = None,
    level: float = 0.95,
    samples: int = 2000,
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` (n,) under resampling with replacement.

    `clusters` (n,) labels values that are not independent, such as the photos of one encounter: whole clusters are
    drawn then.
    """
    labels = np.arange(len(values)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    sums, sizes = np.bincount(labels, values), np.bincount(labels)
    drawn = rng.integers(len(sums), size=(samples, len(sums)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
