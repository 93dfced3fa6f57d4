"""Whom a query is compared with: all of a gallery, or some places, years, or one side."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pusa.config import Config
from pusa.errors import UserError

Side = Literal["left", "right", "front", "back", "up", "down"]


class CandidateSet(Config):
    """Encounters of a gallery that a search is confined to; what is not given excludes nobody. An encounter of which a
    place, time or side is not known is outside of any set of them."""

    places: tuple[str, ...] = ()
    first_year: int | None = Field(default=None, ge=1)
    last_year: int | None = Field(default=None, ge=1)
    side: Side | None = None

    def members(self, about: pa.Table) -> np.ndarray:
        """Which encounters (E,) bool are in it, of columns place, taken_from, taken_to and side.

        Raises UserError for a place that no encounter has, for years in the wrong order, and for an empty set.
        """
        known = sorted(pc.unique(about["place"]).drop_null().to_pylist()) if self.places else []
        if unknown := sorted(set(self.places) - set(known)):
            there = f"It has: {', '.join(known)}." if known else "No place of its encounters is known."
            raise UserError(f"No encounter of the gallery is of the place {unknown[0]!r}. {there}")
        if self.first_year and self.last_year and self.first_year > self.last_year:
            raise UserError(f"The years {self.first_year} to {self.last_year} are in the wrong order.")
        inside = np.ones(len(about), bool)
        if self.places:
            inside &= _true(pc.is_in(about["place"], pa.array(self.places)))
        if self.first_year:
            inside &= _true(pc.greater_equal(pc.year(about["taken_to"]), self.first_year))
        if self.last_year:
            inside &= _true(pc.less_equal(pc.year(about["taken_from"]), self.last_year))
        if self.side:
            inside &= _true(pc.equal(about["side"], self.side))
        if len(inside) and not inside.any():
            raise UserError(f"No named encounter of the gallery is in the candidate set: {self}.")
        return inside

    def __str__(self) -> str:
        years = f"{self.first_year or '...'} to {self.last_year or '...'}" if self.first_year or self.last_year else ""
        return "; ".join(part for part in (", ".join(self.places), years, self.side or "") if part) or "all"


def _true(column: pa.ChunkedArray) -> np.ndarray:
    return column.fill_null(False).to_numpy(zero_copy_only=False)
