"""How probable is it that an encounter shows each known individual, or none of them?

A choice among the I individuals of the gallery and "new" (conditional logit, McFadden 1974): each has a utility,

    u_i = a . (lead, log(1 + inliers), nearness),     u_new = b0 + b1 log(1 + patches),

and the probabilities are their softmax, so that they add up to 1 and more individuals make chance likelier. Signs
compare an individual with the query's other ones, since votes and distances depend on who else is in the gallery:
`lead` is the logarithm of (1 + its score) / (1 + their mean score), 0 where its score is less than theirs; `nearness`
is log(1 + z), where the distance lies z standard deviations below the mean of theirs. Fitted on encounters whose animal
is known, each asked twice: with its individual in the gallery, and without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import logsumexp

from pusa.config import Fitted
from pusa.errors import UserError
from pusa.gallery.search import Comparison

RIDGE = 0.5  # of the squared weights, a standard normal prior: keeps them finite where a sign divides perfectly
SPREAD = 0.01  # of distances, at least: a few that are equal by chance are no measure
FEWEST = 20  # queries to be fitted


class Calibration(Fitted):
    """Weights of the utilities, and `held_out`: of queries that were not fitted on, the probability of the likeliest
    individual, and whether it was the right one."""

    FILE = "calibration.json"
    COMMAND = "pusa gallery calibrate"

    lead: float
    inliers: float
    nearness: float
    new: float
    patches: float
    held_out: tuple[tuple[float, bool], ...] = ()
    queries: int = Field(ge=0)  # fitted on
    source: str = ""  # what it was fitted on, for whoever reads a probability

    def probabilities(
        self, found: Comparison, patches: np.ndarray, new_share: float = 0.5
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probability of each individual (n, I), and of being new (n,), of queries with so many `patches` (n,).

        `new_share`: of the encounters that are asked, how many are expected to be new, 0 to 1 exclusive.
        """
        utility = signs(found) @ np.array([self.lead, self.inliers, self.nearness])
        utility[~np.isfinite(found.cost)] = -np.inf
        new = self.new + self.patches * np.log1p(patches) + np.log(new_share / (1 - new_share))
        every = np.column_stack([utility, new])
        shares = np.exp(every - logsumexp(every, axis=1, keepdims=True))
        return shares[:, :-1], shares[:, -1]

    def threshold(self, tolerated: float) -> float:
        """The least probability at which an encounter may be taken for its likeliest individual, if of those taken so
        at most the share `tolerated` may be wrong; 1 where no threshold does it.

        From `held_out`, half of which is new: where fewer are, fewer are wrong.
        """
        order = sorted(self.held_out, reverse=True)
        wrong = np.cumsum([not right for _, right in order])
        good = [k for k, (p, _) in enumerate(order) if wrong[k] <= tolerated * (k + 1)
                and (k + 1 == len(order) or order[k + 1][0] < p)]  # fmt: skip
        return order[good[-1]][0] if good else 1.0


@dataclass(frozen=True)
class Cases:
    """Queries with a known answer: what was found (n, I); their patches (n,); the column of the true individual (n,),
    -1 where the gallery does not have it; and the animal that each query shows (n,), texts."""

    found: Comparison
    patches: np.ndarray
    true: np.ndarray
    animal: np.ndarray

    def of(self, chosen: np.ndarray) -> Cases:
        """The `chosen` (n,) bool ones."""
        return Cases(self.found.of(chosen), self.patches[chosen], self.true[chosen], self.animal[chosen])

    def __post_init__(self) -> None:
        if len(self.true) and not np.isfinite(self.found.cost).any(axis=1).all():
            raise ValueError("a query that was compared with nothing is no case")


def signs(found: Comparison) -> np.ndarray:
    """What the utilities are made of, (n, I, 3); 0 for an individual that was not compared."""
    compared = np.isfinite(found.cost)
    d = np.where(compared, found.distance, 0).astype(float)
    # Mean and deviation without the individual itself: with it, its own z could not exceed the root of I.
    others = np.maximum(compared.sum(axis=1, keepdims=True) - compared, 1)
    mean = (d.sum(axis=1, keepdims=True) - d) / others
    variance = np.maximum(((d**2).sum(axis=1, keepdims=True) - d**2) / others - mean**2, 0)
    z = (mean - d) / np.sqrt(variance + SPREAD**2)
    nearness = np.where(others >= 2, np.log1p(np.maximum(z, 0)), 0)  # of one other distance no deviation is known
    none = np.zeros(d.shape)
    score = none if found.score is None else np.where(compared, found.score, 0)
    ahead = np.log1p(score) - np.log1p((score.sum(axis=1, keepdims=True) - score) / others)
    lead = np.maximum(ahead, 0)
    inliers = none if found.inliers is None else found.inliers
    return np.where(compared[..., None], np.stack([lead, np.log1p(inliers), nearness], -1), 0)


def fit(parts: Sequence[Cases], folds: int = 5) -> Calibration:
    """The calibration of largest likelihood. `held_out` comes from fits to all but a fold of the animals.

    Raises UserError where there are fewer than FEWEST queries.
    """
    queries = sum(len(p.true) for p in parts)
    if queries < FEWEST:
        raise UserError(
            f"{queries} encounters of animals that were seen in several sequences are too few to calibrate with; "
            f"expected {FEWEST}. Enroll more, or keep the starter calibration."
        )
    held_out: list[tuple[float, bool]] = []
    for calibration, outside in crossed(parts, folds):
        for p, o in zip(parts, outside, strict=True):
            shares = calibration.probabilities(p.found, p.patches)[0][o]
            best = shares.argmax(axis=1)
            held_out += zip(shares.max(axis=1).tolist(), (best == p.true[o]).tolist(), strict=True)
    final = _weights([_Table.of(p, np.ones(len(p.true), bool)) for p in parts])
    return final.model_copy(update={"held_out": tuple(held_out)})


def crossed(parts: Sequence[Cases], folds: int = 5) -> Iterator[tuple[Calibration, list[np.ndarray]]]:
    """Calibrations fitted to all but a fold of the animals, each with the queries (n,) bool of each part that are of
    that fold."""
    animals = np.unique(np.concatenate([p.animal for p in parts]))
    fold = dict(zip(animals, np.random.default_rng(0).permutation(len(animals)) % folds, strict=True))
    for k in range(folds):
        outside = [np.array([fold[a] == k for a in p.animal], bool) for p in parts]
        if any(o.any() for o in outside) and not all(o.all() for o in outside):
            yield _weights([_Table.of(p, ~o) for p, o in zip(parts, outside, strict=True)]), outside


@dataclass(frozen=True)
class _Table:
    """The signs of some cases, (n, I, 3), which were compared (n, I), log patches (n,), and the true column (n,)."""

    signs: np.ndarray
    compared: np.ndarray
    patches: np.ndarray
    true: np.ndarray

    @classmethod
    def of(cls, cases: Cases, chosen: np.ndarray) -> _Table:
        compared = np.isfinite(cases.found.cost)[chosen]
        return cls(signs(cases.found)[chosen], compared, np.log1p(cases.patches)[chosen], cases.true[chosen])

    def loss(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the log-likelihood of weights (5,), and its gradient."""
        utility = np.where(self.compared, self.signs @ w[:3], -np.inf)
        every = np.column_stack([utility, w[3] + w[4] * self.patches])
        log_shares = every - logsumexp(every, axis=1, keepdims=True)
        column = np.where(self.true < 0, every.shape[1] - 1, self.true)
        rows = np.arange(len(column))
        excess = np.exp(log_shares)  # minus 1 where it is true: the gradient by utility
        excess[rows, column] -= 1
        gradient = np.empty(5)
        gradient[:3] = np.einsum("ni,nif->f", excess[:, :-1], self.signs)
        gradient[3:] = excess[:, -1].sum(), excess[:, -1] @ self.patches
        return -float(log_shares[rows, column].sum()), gradient


def _weights(tables: Sequence[_Table]) -> Calibration:
    n = sum(len(t.true) for t in tables)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        values, gradients = zip(*(t.loss(w) for t in tables), strict=True)
        return sum(values) + RIDGE * float(w @ w), np.sum(gradients, axis=0) + 2 * RIDGE * w

    # No sign of an individual speaks against it, however few the queries are that it is fitted to.
    bounds = [(0, None)] * 3 + [(None, None)] * 2
    w = minimize(loss, np.zeros(5), jac=True, method="L-BFGS-B", bounds=bounds).x.tolist()
    return Calibration(lead=w[0], inliers=w[1], nearness=w[2], new=w[3], patches=w[4], queries=n)
