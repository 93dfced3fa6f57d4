"""How good answers are that may be "new": measured with animals that the gallery has, and with animals that it has not.

BAKS and BAUS (balanced accuracy on known and on unknown samples: each animal weighs the same) as in AnimalCLEF 2025.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

BINS = 10  # of equally many answers


@dataclass(frozen=True)
class Answers:
    """Of n queries: the likeliest answer, a column or -1 for new, and its probability; the `new` probability; the
    likeliest individual and its probability; the `true` column, -1 for new; and the animal shown (texts); all (n,)."""

    answer: np.ndarray
    probability: np.ndarray
    new: np.ndarray
    individual: np.ndarray
    individual_probability: np.ndarray
    true: np.ndarray
    animal: np.ndarray

    @classmethod
    def of(cls, shares: np.ndarray, new: np.ndarray, true: np.ndarray, animal: np.ndarray) -> Answers:
        """From the probability of each individual (n, I) and of new (n,)."""
        best, largest = shares.argmax(axis=1), shares.max(axis=1)
        return cls(np.where(new >= largest, -1, best), np.maximum(new, largest), new, best, largest, true, animal)


def figures(a: Answers, threshold: float) -> dict[str, float]:
    """auc_new; baks, baus; calibration_error of the likeliest answer and of "new"; accepted: the share of queries whose
    likeliest individual has at least the probability `threshold`; misidentified: the share of these that is wrong."""
    is_new = a.true < 0
    right = a.answer == a.true
    accepted = a.individual_probability >= threshold
    wrong = accepted & (a.individual != a.true)
    return {
        "queries": len(a.true),
        "new": int(is_new.sum()),
        "auc_new": float(roc_auc_score(is_new, a.new)) if 0 < is_new.sum() < len(is_new) else float("nan"),
        "baks": balanced(right[~is_new], a.animal[~is_new]),
        "baus": balanced(right[is_new], a.animal[is_new]),
        "calibration_error": calibration_error(a.probability, right),
        "calibration_error_new": calibration_error(a.new, is_new),
        "accepted": float(accepted.mean()) if len(accepted) else float("nan"),
        "misidentified": float(wrong.sum() / accepted.sum()) if accepted.any() else float("nan"),
    }


def balanced(right: np.ndarray, animal: np.ndarray) -> float:
    """Mean over animals of the share of right answers; NaN without any."""
    return float(np.mean([right[animal == name].mean() for name in np.unique(animal)])) if len(right) else float("nan")


def reliability(probability: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int]]:
    """Mean probability, share of right answers and number of answers, of BINS bins of equally many answers."""
    parts = np.array_split(np.argsort(probability, kind="stable"), BINS)
    return [(float(probability[p].mean()), float(right[p].mean()), len(p)) for p in parts if len(p)]


def calibration_error(probability: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: by how much probability and share of right answers differ, mean over the bins."""
    bins = reliability(probability, right)
    return sum(n * abs(p - share) for p, share, n in bins) / max(len(probability), 1)


def interval(measure: str, a: Answers, threshold: float, samples: int = 500) -> tuple[float, float]:
    """95 % interval of one of `figures`; animals are drawn anew."""
    rng = np.random.default_rng(0)
    names, owner = np.unique(a.animal, return_inverse=True)
    members = [np.flatnonzero(owner == k) for k in range(len(names))]
    found = []
    for _ in range(samples):
        rows = np.concatenate([members[k] for k in rng.integers(len(names), size=len(names))])
        drawn = Answers(*(getattr(a, name)[rows] for name in a.__dataclass_fields__))
        found.append(figures(drawn, threshold)[measure])
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)


def draw(a: Answers, path: str) -> None:
    """The reliability diagram, of the likeliest answers and of "new"."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=1)
    for name, probability, right in (("likeliest answer", a.probability, a.answer == a.true),
                                     ("new", a.new, a.true < 0)):  # fmt: skip
        bins = reliability(probability, right)
        axes.plot([p for p, _, _ in bins], [share for _, share, _ in bins], marker="o", markersize=4, label=name)
    axes.set_xlabel("probability")
    axes.set_ylabel("share that is right")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
