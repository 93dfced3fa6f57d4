"""The named encounters of a gallery as they are at one moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pusa.gallery import tables
from pusa.gallery.codes import BYTES
from pusa.gallery.geometry import Features
from pusa.gallery.lance import connect
from pusa.gallery.search import Coded, Vectors

if TYPE_CHECKING:
    from pusa.gallery.store import Gallery

ABOUT = ["sequence_id", "place", "taken_from", "taken_to", "side", "n_patches"]


class Snapshot:
    """The E encounters of a gallery that have a name and a vector, in order of their key, whatever is enrolled or
    decided later. Only who they are is in memory; vectors and crops are read when they are asked for."""

    def __init__(self, gallery: Gallery) -> None:
        self.versions = versions(gallery)
        catalogue = gallery.catalogue()
        # Row ids hold for one version of the table only, so this handle stays at the version that it was opened at.
        self.table = connect(gallery.uri).open_table("encounters")
        self.table.checkout(self.versions[0])
        self.length = int(gallery.about["length"])
        columns = ["run", "encounter_id", *ABOUT]
        found = self.table.search().where("code IS NOT NULL").select(columns).with_row_id(True).to_arrow()
        keys = list(zip(found["run"].to_pylist(), found["encounter_id"].to_pylist(), strict=True))
        # LanceDB returns rows in no promised order.
        order = sorted((i for i, key in enumerate(keys) if key in catalogue.names), key=keys.__getitem__)
        self.keys = [keys[i] for i in order]
        self.individuals = [catalogue.names[key] for key in self.keys]
        self.taken_out = catalogue.crops
        self.about = found.select(ABOUT).take(pa.array(order, pa.int64()))
        self.row_ids = found["_rowid"].to_numpy()[order]

    def __len__(self) -> int:
        return len(self.keys)

    def exact(self) -> Vectors:
        """The vectors themselves, in memory."""
        fisher = np.empty((len(self), self.length), np.float16)
        for places, column in self._all("fisher"):
            fisher[places] = tables.fisher_array(column, self.length)
        return Vectors(*self._named(), fisher, self.about)

    def coded(self, shortlist: int) -> Coded:
        """Codes, in memory, behind which the vectors of the `shortlist` nearest are read."""
        found = np.empty((len(self), BYTES), np.uint8)
        for places, column in self._all("code"):
            found[places] = tables.code_array(column)
        return Coded(*self._named(), np.zeros((0, self.length), np.float16), self.about, found, shortlist, self.fisher)

    def fisher(self, places: np.ndarray) -> np.ndarray:
        """Fisher vectors (n, L) float16 of the encounters at `places` (n,)."""
        return tables.fisher_array(self._some("fisher", places), self.length).copy()  # Arrow's memory is read-only

    def features(self, places: Sequence[int]) -> list[list[Features]]:
        """Points of the crops of the encounters at `places`, less those that were taken out of them."""
        crops = self._some("crops", np.array(places, int)).to_pylist()
        return [tables.features_of(c, self.taken_out.get(self.keys[p], ())) for p, c in zip(places, crops, strict=True)]

    def _named(self) -> tuple[list[str], list[str], list[str]]:
        return [r for r, _ in self.keys], [e for _, e in self.keys], self.individuals

    def _all(self, name: str) -> Iterator[tuple[np.ndarray, pa.Array]]:
        """A column, part by part, with the places of its values."""
        order = np.argsort(self.row_ids)
        for batch in self.table.search().where("code IS NOT NULL").select([name]).with_row_id(True).to_batches():
            rows = batch["_rowid"].to_numpy()
            at = np.searchsorted(self.row_ids, rows, sorter=order).clip(max=len(self) - 1)
            named = self.row_ids[order[at]] == rows if len(self) else np.zeros(len(rows), bool)
            yield order[at[named]], batch[name].filter(pa.array(named))

    def _some(self, name: str, places: np.ndarray) -> pa.Array:
        """A column's values at `places`, in their order; one may be there twice."""
        wanted, back = np.unique(self.row_ids[places], return_inverse=True)
        rows = self.table.take_row_ids(wanted.tolist()).select([name]).with_row_id().to_arrow()
        at = np.argsort(rows["_rowid"].to_numpy())[back]  # in no promised order, either
        return rows[name].combine_chunks().take(pa.array(at))


def versions(gallery: Gallery) -> tuple[int, int]:
    """Numbers that differ as soon as anything was enrolled in a gallery, or decided."""
    return gallery.encounters.version, gallery.journal.version
