"""What a catalogue tells: who was seen when and where, how fast new animals are found, how many are seen again.

An individual counts from the journal's decisions alone; encounters that nobody has decided about are told apart. All
times are local, corrected by the clock shift of the deployment.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pusa.exchange.captures import place_of
from pusa.exchange.dataset import Dataset, Encounter
from pusa.exchange.plain import individuals

MOST_PERIODS = 24  # columns of a table; above, the next longer period is taken
_FORMS = {"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}


@dataclass(frozen=True)
class Period:
    """Of the encounters of one period: individuals seen, those of them that had been seen in an earlier period, and
    encounters."""

    name: str
    seen: int
    again: int
    encounters: int

    @property
    def new(self) -> int:
        return self.seen - self.again

    @property
    def rate(self) -> float:
        return self.again / self.seen


@dataclass(frozen=True)
class Sightings:
    """`individuals`: rows of `plain.individuals`. `by_place`: encounters by place and period. `curve`: after each
    encounter, in order of time, how many individuals were known. `undecided`: encounters of no individual; `undated`:
    decided ones without a time, which are in none of the rest but `individuals`."""

    individuals: list[dict[str, Any]]
    unit: str  # of the periods: day, month or year
    periods: list[Period]
    by_place: dict[str, Counter[str]]
    curve: list[int]
    when: list[dt.datetime]  # of the encounters of the curve
    where: list[str]
    undecided: int = 0
    undated: int = 0
    notices: list[str] = field(default_factory=list)

    @property
    def repeated(self) -> int:
        """Individuals seen on more than one day."""
        return sum(row["first_seen"] != row["last_seen"] for row in self.individuals)


def sightings(dataset: Dataset) -> Sightings:
    """The figures of a dataset."""
    named = dataset.named()
    dated = sorted((e for e in named if e.taken_from), key=lambda e: (e.taken_from, e.encounter_id))
    times = [e.taken_from for e in dated if e.taken_from]
    unit = unit_of(times)
    by_place: dict[str, Counter[str]] = {}
    for e in dated:
        by_place.setdefault(place_of(e), Counter())[name_of(e, unit)] += 1
    return Sightings(
        individuals=individuals(named),
        unit=unit,
        periods=resightings(dated, unit),
        by_place=dict(sorted(by_place.items())),
        curve=discovery(dated),
        when=times,
        where=[place_of(e) for e in dated],
        undecided=len(dataset.encounters) - len(named),
        undated=len(named) - len(dated),
        notices=dataset.notices,
    )


def unit_of(times: Sequence[dt.datetime]) -> str:
    """The finest of day, month and year that gives at most 24 periods with an encounter; years where there are two."""
    if len({time.year for time in times}) > 1:
        return "year"
    return next(unit for unit in _FORMS if len({time.strftime(_FORMS[unit]) for time in times}) <= MOST_PERIODS)


def name_of(encounter: Encounter, unit: str) -> str:
    assert encounter.taken_from is not None
    return encounter.taken_from.strftime(_FORMS[unit])


def discovery(dated: Sequence[Encounter]) -> list[int]:
    """How many different individuals were known after each encounter; `dated` in order of time."""
    known: set[str | None] = set()
    curve = []
    for e in dated:
        known.add(e.individual)
        curve.append(len(known))
    return curve


def resightings(dated: Sequence[Encounter], unit: str) -> list[Period]:
    """One row a period with an encounter: who was seen, and who of them had been seen in an earlier period."""
    by_period: dict[str, list[str | None]] = {}
    for e in dated:
        by_period.setdefault(name_of(e, unit), []).append(e.individual)
    before: set[str | None] = set()
    periods: list[Period] = []
    for name, members in sorted(by_period.items()):
        seen = set(members)
        periods.append(Period(name, len(seen), len(seen & before), len(members)))
        before |= seen
    return periods
