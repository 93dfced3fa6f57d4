"""Calibration of a gallery's answers on its own encounters, and how good its open-set answers are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pusa import ranking
from pusa.gallery import openset, search
from pusa.gallery.calibration import FEWEST, Calibration, Cases, crossed, fit
from pusa.gallery.openset import Answers
from pusa.gallery.search import Watch
from pusa.gallery.store import Gallery
from pusa.gallery.verify import Verifier, VerifyConfig

SHARES = (0.25, 0.5, 0.75)  # of the individuals that are taken out of the gallery


@dataclass(frozen=True)
class Known:
    """The E encounters of a gallery that have a name and a vector; arrays (E,), and `verifier` of their crops."""

    vectors: search.Vectors
    individual: np.ndarray
    sequence: np.ndarray
    patches: np.ndarray
    taken: np.ndarray  # datetime64, NaT where unknown
    crops: list[list]
    verifier: Verifier | None

    @classmethod
    def of(cls, gallery: Gallery, verification: VerifyConfig | None) -> Known:
        vectors = gallery.vectors()
        about = vectors.about or pa.table({})
        keys = list(zip(vectors.runs, vectors.encounter_ids, strict=True))
        crops = gallery.features(keys) if verification else []
        sequence = [f"{r}\0{s or e}" for (r, e), s in zip(keys, about["sequence_id"].to_pylist(), strict=True)]
        return cls(
            vectors, np.array(vectors.individuals, object), np.array(sequence, object),
            np.array([n or 0 for n in about["n_patches"].to_pylist()], float),
            about["taken_from"].to_numpy(zero_copy_only=False).astype("datetime64[ms]"),
            crops, Verifier(crops, verification) if verification else None,
        )  # fmt: skip

    def cases(self, queries: np.ndarray, allowed: np.ndarray, watch: Watch = iter) -> Cases:
        """Queries (E,) bool against the encounters `allowed` (E, E) bool, less those that can be compared with none.
        A query's individual is in the gallery where one of its encounters is allowed. `watch`: shows the progress."""
        rows = np.flatnonzero(queries & self.vectors.fisher.any(axis=1))
        crops = [self.crops[i] for i in rows] if self.verifier else []
        found = search.compare(self.vectors.fisher[rows], self.vectors, allowed[rows], watch(crops), self.verifier)
        compared = np.isfinite(found.cost).any(axis=1)
        found, rows = found.of(compared), rows[compared]
        column = np.searchsorted(found.names, self.individual[rows].astype(str))
        there = np.isfinite(found.cost[np.arange(len(rows)), column])
        return Cases(found, self.patches[rows], np.where(there, column, -1), self.individual[rows].astype(str))

    @property
    def other(self) -> np.ndarray:
        """Which encounters (E, E) are of different sequences."""
        return self.sequence[:, None] != self.sequence

    @property
    def same(self) -> np.ndarray:
        """Which encounters (E, E) show the same individual."""
        return self.individual[:, None] == self.individual

    @property
    def findable(self) -> np.ndarray:
        """Encounters (E,) of animals that another sequence shows, too."""
        return (self.other & self.same).any(axis=1)


def cases_of(gallery: Gallery, verification: VerifyConfig | None, watch: Watch = iter) -> tuple[Cases, Cases]:
    """What a calibration is fitted to: each encounter of an animal that several sequences show, asked twice, with its
    individual in the gallery and without it; never against its own sequence."""
    known = Known.of(gallery, verification)
    there = known.cases(known.findable, known.other, watch)
    return there, known.cases(known.findable, known.other & ~known.same, watch)


@dataclass(frozen=True)
class Row:
    """One line of the evaluation: which split, its `openset.figures`, and the answers behind them."""

    split: str
    figures: dict[str, float]
    answers: Answers


def evaluate(
    gallery: Gallery,
    calibration: Calibration,
    verification: VerifyConfig | None,
    tolerated: float = 0.05,
    new_share: float = 0.5,
    seed: int = 0,
    watch: Watch = iter,
) -> tuple[dict[int, tuple[float, float, float]], list[Row]]:
    """Closed-set top-n by probability with intervals, and the open-set figures: each encounter asked with and without
    its individual; the same by calibrations fitted to the gallery's own animals, each by one that has not seen it; with
    a share of all individuals out of the gallery; and what came later in time against what was there before.
    """
    known = Known.of(gallery, verification)
    closed = known.cases(known.findable, known.other, watch)
    shares, _ = calibration.probabilities(closed.found, closed.patches, new_share)
    ranks = ranking.ranks(np.where(np.isfinite(closed.found.cost), -shares, np.inf), closed.true)
    tops = {n: ranking.top_n_interval(ranks, n, closed.animal) for n in (1, 5)}

    def row(split: str, *judged: tuple[Calibration, Cases], threshold: float = calibration.threshold(tolerated)) -> Row:
        every = [Answers.of(*c.probabilities(p.found, p.patches, new_share), p.true, p.animal) for c, p in judged]
        a = Answers(*(np.concatenate([getattr(e, name) for e in every]) for name in Answers.__dataclass_fields__))
        return Row(split, openset.figures(a, threshold), a)

    both = [closed, known.cases(known.findable, known.other & ~known.same, watch)]
    rows = [row("with and without", *((calibration, part) for part in both))]
    if sum(len(part.true) for part in both) >= FEWEST:
        own = [(c, p.of(o)) for c, outside in crossed(both) for p, o in zip(both, outside, strict=True) if o.any()]
        rows.append(row("the same, calibrated on its other animals", *own, threshold=fit(both).threshold(tolerated)))
    names = np.unique(known.individual.astype(str))
    for share in SHARES:
        out = np.random.default_rng(seed).permutation(names)[: round(share * len(names))]
        inside = ~np.isin(known.individual.astype(str), out)
        rows.append(
            row(f"{share:.0%} unknown", (calibration, known.cases(known.findable, known.other & inside, watch)))
        )
    dated = ~np.isnat(known.taken)
    if dated.any():
        middle = np.sort(known.taken[dated])[dated.sum() // 2]
        later = dated & (known.taken >= middle)
        cases = known.cases(later, known.other & (dated & ~later)[None, :], watch)
        rows.append(row("later in time", (calibration, cases)))
    return tops, rows
