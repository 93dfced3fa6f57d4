"""Ways to group, side by side on the same sequences: as they are, with animals missing, and with false detections.

Table 2 of the paper compares descriptors by the Rand index; here each meets every assignment, with chance as
the floor. A false detection is one of another sequence: it belongs to no animal of its photo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pusa import partitions, ranking
from pusa.grouping.assign import GroupingConfig, group

# An assignment; None: chance
METHODS: dict[str, GroupingConfig | None] = {
    "chance": None,
    "greedy (the paper's)": GroupingConfig(method="greedy", position=0),
    "greedy, position": GroupingConfig(method="greedy"),
    "optimal": GroupingConfig(method="optimal", position=0),
    "open": GroupingConfig(method="open", position=0),
    "agglomerative": GroupingConfig(method="agglomerative", position=0),
    "agglomerative, position": GroupingConfig(),
}


@dataclass(frozen=True)
class Shown:
    """One sequence: of each photo, in order, descriptors (n_i, d), boxes (n_i, 4), and the animals' names."""

    descriptors: list[np.ndarray]
    boxes: list[np.ndarray]
    names: list[list[str]]

    def labels(self) -> list[str]:
        """The names of all instances, photo by photo."""
        return [name for names in self.names for name in names]

    @property
    def animals(self) -> int:
        """How many animals it shows."""
        return len(set(self.labels()))


def missing(sequences: Sequence[Shown], share: float, rng: np.random.Generator) -> list[Shown]:
    """The sequences with each instance left out with the probability `share`: animals come and go."""
    result = []
    for s in sequences:
        keep = [np.flatnonzero(rng.random(len(names)) >= share) for names in s.names]
        result.append(
            Shown(
                [d[k] for d, k in zip(s.descriptors, keep, strict=True)],
                [b[k] for b, k in zip(s.boxes, keep, strict=True)],
                [[names[i] for i in k] for names, k in zip(s.names, keep, strict=True)],
            )
        )
    return result


def with_false(sequences: Sequence[Shown], share: float, rng: np.random.Generator) -> list[Shown]:
    """The sequences with, in a `share` of the photos, one more instance: the crop of an animal of another sequence."""
    pool = [(k, d, b) for k, s in enumerate(sequences) for d_, b_ in zip(s.descriptors, s.boxes, strict=True)
            for d, b in zip(d_, b_, strict=True)]  # fmt: skip
    foreign = [[j for j, (k, _, _) in enumerate(pool) if k != i] for i in range(len(sequences))]
    result = []
    for i, s in enumerate(sequences):
        new = Shown(list(s.descriptors), list(s.boxes), [list(names) for names in s.names])
        for p in np.flatnonzero(rng.random(len(s.names)) < share):
            _, descriptor, box = pool[int(rng.choice(foreign[i]))]
            new.descriptors[p] = np.vstack([s.descriptors[p].reshape(-1, len(descriptor)), descriptor])
            new.boxes[p] = np.vstack([s.boxes[p].reshape(-1, 4), box])
            new.names[p].append(f"nobody {p}")
        result.append(new)
    return result


def by_chance(sequence: Shown, rng: np.random.Generator) -> list[list[int]]:
    """Each photo's instances in different groups, drawn by chance, of as many as the fullest photo has instances."""
    most = max((len(names) for names in sequence.names), default=0)
    return [rng.permutation(most)[: len(names)].tolist() for names in sequence.names]


@dataclass(frozen=True)
class Score:
    """`figures`: those of `partitions.grouping_metrics`; `adjusted` (s,): the adjusted Rand index of each sequence."""

    figures: dict[str, float]
    adjusted: np.ndarray

    def above(self, other: Score) -> tuple[float, float, float]:
        """Mean difference of the adjusted Rand index on the same sequences, and its 95 % interval."""
        difference = self.adjusted - other.adjusted
        return float(difference.mean()), *ranking.bootstrap_interval(difference, np.random.default_rng(0))


def score(sequences: Sequence[Shown], assign: Callable[[Shown], list[list[int]]]) -> Score:
    """How well an assignment agrees with the names, over the sequences of two instances and more."""
    pairs = [
        (s.labels(), [label for labels in assign(s) for label in labels]) for s in sequences if len(s.labels()) > 1
    ]
    adjusted = [partitions.pairs(true, found).adjusted_rand_index for true, found in pairs]
    return Score(partitions.grouping_metrics(pairs), np.array(adjusted))


def score_all(sequences: Sequence[Shown], seed: int = 0) -> dict[str, Score]:
    """Every method of METHODS on the same sequences."""
    rng = np.random.default_rng(seed)

    def assign(config: GroupingConfig | None) -> Callable[[Shown], list[list[int]]]:
        if config is None:
            return lambda s: by_chance(s, rng)
        return lambda s: group(s.descriptors, config, s.boxes)

    return {name: score(sequences, assign(config)) for name, config in METHODS.items()}
