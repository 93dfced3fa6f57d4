"""How well the groups found agree with the true individuals: Rand index, adjusted Rand index, purity.

A partition is a sequence of labels, one an instance; which label stands for which group does not matter. Rand index:
Rand 1971; adjusted for chance: Hubert and Arabie 1985.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

Labels = Sequence[Hashable] | np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Counts of unordered pairs of instances: of all, those together in the truth, in the groups found, and in both."""

    total: int
    together_true: int
    together_found: int
    together_both: int

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(*(getattr(self, f) + getattr(other, f) for f in self.__dataclass_fields__))

    @property
    def rand_index(self) -> float:
        """Share of pairs on which both partitions agree (together or apart), 0 to 1; 1 where there is no pair."""
        disagree = self.together_true + self.together_found - 2 * self.together_both
        return 1 - disagree / self.total if self.total else 1.0

    @property
    def adjusted_rand_index(self) -> float:
        """Rand index on a scale where random groups of the same sizes reach 0 on average and equal partitions 1."""
        if not self.total:
            return 1.0
        expected = self.together_true * self.together_found / self.total
        largest = (self.together_true + self.together_found) / 2
        return (self.together_both - expected) / (largest - expected) if largest != expected else 1.0


def pairs(truth: Labels, found: Labels) -> Pairs:
    """The pair counts of two partitions of the same instances."""
    table = _contingency(truth, found)

    def two(counts: NDArray[np.int64]) -> int:
        return int((counts * (counts - 1) // 2).sum())

    return Pairs(two(table.data.sum(keepdims=True)), two(table.sum(1)), two(table.sum(0)), two(table.data))


def purity(truth: Labels, found: Labels) -> float:
    """Share of instances that belong to the most frequent true individual of their group, 0 to 1."""
    table = _contingency(truth, found)
    return float(table.max(0).sum() / table.sum()) if table.nnz else 1.0


def grouping_metrics(sequences: Sequence[tuple[Labels, Labels]]) -> dict[str, float]:
    """The figures of an evaluation over sequences, each (true labels, found labels).

    `rand_index` and `adjusted_rand_index` are means over the sequences that have a pair of instances (`sequences`
    counts these); `pooled_rand_index` is over the pairs within sequences (`pairs`) taken together; `purity` over
    instances; `perfect` is the share of sequences without any error. Raises ValueError where no sequence has two
    instances.
    """
    kept = [(truth, found) for truth, found in sequences if len(truth) > 1]
    if not kept:
        raise ValueError("no sequence has two instances: there is nothing to measure")
    counts = [pairs(truth, found) for truth, found in kept]
    pooled = sum(counts[1:], counts[0])
    sizes = [len(truth) for truth, _ in kept]
    return {
        "sequences": len(kept),
        "pairs": pooled.total,
        "rand_index": float(np.mean([c.rand_index for c in counts])),
        "pooled_rand_index": pooled.rand_index,
        "adjusted_rand_index": float(np.mean([c.adjusted_rand_index for c in counts])),
        "purity": float(np.average([purity(*labels) for labels in kept], weights=sizes)),
        "perfect": float(np.mean([c.together_true == c.together_found == c.together_both for c in counts])),
    }


def _contingency(truth: Labels, found: Labels) -> csc_array:
    """Instances by true label (rows) and found label (columns); most fields are empty where labels are many."""
    if len(truth) != len(found):
        raise ValueError(f"{len(truth)} true labels and {len(found)} found ones: expected as many")
    rows, columns = _numbered(truth), _numbered(found)
    shape = rows.max(initial=-1) + 1, columns.max(initial=-1) + 1
    return csc_array((np.ones(len(rows), np.int64), (rows, columns)), shape=shape)


def _numbered(labels: Labels) -> NDArray[np.intp]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], np.intp)
