"""A gallery that is opened once, and asked again and again.

Up to EXACT encounters their Fisher vectors are in memory and all are compared. Beyond, only codes of 1 KB are, and the
vectors of the SHORTLIST encounters that are nearest by their codes are read and compared exactly. Crops are read when
they are compared, and those compared last are kept (`verify.CACHE`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pyarrow as pa

from pusa.gallery import search
from pusa.gallery.calibration import Calibration
from pusa.gallery.candidate_set import CandidateSet
from pusa.gallery.geometry import Features
from pusa.gallery.journal import Key
from pusa.gallery.search import Ranking, Watch
from pusa.gallery.snapshot import Snapshot, versions
from pusa.gallery.store import Gallery
from pusa.gallery.verify import Verifier, VerifyConfig
from pusa.records import CANDIDATES

EXACT = 2000  # encounters whose vectors are in memory: 256 MB at 65,536 numbers
SHORTLIST = 40  # encounters that are compared exactly in a larger gallery
PAIRS = 2**22  # of queries and encounters in memory at once: 32 MB a table
ALL = CandidateSet()


@dataclass(frozen=True)
class Query:
    """An encounter to be identified: its key (run, encounter_id), since one that is enrolled is not compared with
    itself, its Fisher vector (L,), its number of patches, and the points of its crops."""

    key: Key
    fisher: np.ndarray
    patches: int = 0
    crops: Sequence[Features] = field(default=())


class Index:
    """A gallery as it was when it was opened, or refreshed: what is enrolled or decided later is not found before.

    `verification`: points of crops are compared, too, and candidates have probabilities, by the gallery's own
    calibration or the starter's. Not for several threads at once.
    """

    def __init__(self, gallery: Gallery, verification: VerifyConfig | None = None, exact: int = EXACT) -> None:
        self.gallery, self.verification, self.exact = gallery, verification, exact
        self._open()

    def refresh(self) -> bool:
        """Takes in what was enrolled and decided since, and says whether anything was."""
        changed = versions(self.gallery) != self.snapshot.versions
        if changed:
            self._open()
        return changed

    def _open(self) -> None:
        self.snapshot = Snapshot(self.gallery)
        small = len(self.snapshot) <= self.exact
        self.vectors = self.snapshot.exact() if small else self.snapshot.coded(SHORTLIST)
        self.calibration = self.gallery.calibration or Calibration.starter()
        self.verifier = Verifier(self.snapshot.features, self.verification) if self.verification else None

    def __len__(self) -> int:
        """How many encounters can be found."""
        return len(self.snapshot)

    def ask(
        self,
        queries: Sequence[Query],
        among: CandidateSet = ALL,
        top: int = 5,
        new_share: float = 0.5,
        watch: Watch = iter,
    ) -> Ranking:
        """The `top` candidates of each query among the encounters of a candidate set.

        `new_share`: of the encounters that are asked, how many are expected to be new. `watch`: shows the progress of
        the verification. Raises UserError as `CandidateSet.members`.
        """
        inside = among.members(self.vectors.about)
        crops = iter(watch([q.crops for q in queries])) if self.verifier else iter(())
        step = max(1, PAIRS // max(len(self), 1))
        parts = [self._ask(queries[i : i + step], inside, top, new_share, crops) for i in range(0, len(queries), step)]
        none = Ranking(CANDIDATES.empty_table(), np.zeros(0, np.intp))
        every = [none, *parts]
        return Ranking(pa.concat_tables([p.candidates for p in every]), np.concatenate([p.nearest for p in every]))

    def _ask(
        self, queries: Sequence[Query], inside: np.ndarray, top: int, new_share: float, crops: Iterator
    ) -> Ranking:
        allowed = np.tile(inside, (len(queries), 1))
        for own, query in zip(allowed, queries, strict=True):
            if (place := self.vectors.places.get(query.key)) is not None:
                own[place] = False
        vectors = np.stack([q.fisher for q in queries])
        found = search.compare(vectors, self.vectors, allowed, islice(crops, len(queries)), self.verifier)
        ids, patches = [e for _, e in (q.key for q in queries)], np.array([q.patches for q in queries])
        shares = self.calibration.probabilities(found, patches, new_share) if self.verifier else ()
        return search.rank(ids, found, top, *shares)
