"""A gallery held in memory, asked again and again: who are these encounters? The same for a run and for an endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pusa.gallery import search
from pusa.gallery.calibration import Calibration
from pusa.gallery.geometry import Features, Match
from pusa.gallery.search import Ranking, Vectors
from pusa.gallery.store import Gallery
from pusa.gallery.verify import Verifier, VerifyConfig


@dataclass(frozen=True)
class Pair:
    """The crops of a query and of an individual that match best, and where."""

    first: Features
    second: Features
    match: Match


class Identifier:
    """Ranks encounters against the individuals that `gallery` had when this was made.

    `verification`: points of the nearest ones' crops are compared, too, and candidates get probabilities, by the
    gallery's own calibration or the starter's.
    """

    def __init__(self, gallery: Gallery, verification: VerifyConfig | None = None) -> None:
        self.vectors = gallery.vectors()
        self.verifier = verifier_of(gallery, self.vectors, verification) if verification else None
        self.calibration = gallery.calibration or Calibration.starter()

    def __call__(
        self,
        run: str,
        encounter_ids: Sequence[str],
        fisher: np.ndarray,
        n_patches: np.ndarray,
        crops: Iterable[Sequence[Features]] = (),
        top: int = 5,
        new_share: float = 0.5,
    ) -> Ranking:
        """The `top` candidates of encounters of a `run`: Fisher vectors (n, L), numbers of patches (n,), crops of each.

        An encounter that is enrolled itself is not compared with itself. `new_share`: of the encounters that are asked,
        how many are expected to be new, 0 to 1 exclusive.
        """
        itself = search.same_encounter(run, encounter_ids, self.vectors)
        found = search.compare(fisher, self.vectors, ~itself, crops, self.verifier)
        shares = self.calibration.probabilities(found, n_patches, new_share) if self.verifier else ()
        return search.rank(encounter_ids, found, top, *shares)

    def best_pair(self, crops: Sequence[Features], encounter: int) -> Pair:
        """The best pair of a query's crops and those of an encounter, a place in `Ranking.nearest`."""
        if self.verifier is None:
            raise ValueError("without a verification no crops are held")
        return Pair(*self.verifier.best_pair(crops, encounter))


def verifier_of(gallery: Gallery, vectors: Vectors, config: VerifyConfig) -> Verifier:
    """The verifier of a gallery's encounters."""
    return Verifier(gallery.features(list(zip(vectors.runs, vectors.encounter_ids, strict=True))), config)
