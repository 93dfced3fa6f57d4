"""Capture histories: who was seen on which occasion, where, and with how much effort.

An occasion is a period in which cameras were at work; a zero says "at work, and not seen". A period without any effort
is therefore no occasion, and a sighting where nothing was at work is an error of the data. Only decided individuals
count.

The two flanks of an animal are different patterns: left and right are two data sets, never to be added up. An animal
that an encounter shows from both flanks is known from both, so all of its encounters count in each; any other one
counts in a data set with the encounters that show that flank (Augustine et al. 2018, Ecology and Evolution 8: the
two-sided problem).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pusa.errors import UserError
from pusa.exchange.dataset import Dataset, Encounter
from pusa.exchange.tables import csv_text, read_csv
from pusa.records import FLANKS

PERIODS = ("day", "week", "month", "year")
NOWHERE = "no deployment"  # the place of photos that lie in none


@dataclass(frozen=True)
class Occasion:
    """A sampling period, from its `first` to its `last` day; `start` counts in units of the period (day, week, month,
    year), of occasions from a file in years."""

    name: str
    first: dt.date
    last: dt.date
    start: float


@dataclass(frozen=True)
class Histories:
    """`captures`: encounters by individual, occasion (0 is the first) and place. `effort`: days at work by place, one
    number an occasion."""

    occasions: list[Occasion]
    captures: dict[str, Counter[tuple[int, str]]]
    effort: dict[str, list[int]]

    def history(self, individual: str) -> str:
        """One 0 or 1 an occasion."""
        seen = {occasion for occasion, _ in self.captures[individual]}
        return "".join("01"[k in seen] for k in range(len(self.occasions)))

    @property
    def intervals(self) -> list[float]:
        """From the start of each occasion to that of the next."""
        starts = [o.start for o in self.occasions]
        return [round(b - a, 4) for a, b in pairwise(starts)]


def histories(
    dataset: Dataset, occasions: str = "month", side: str | None = None
) -> tuple[dict[str, Histories], list[str]]:
    """Histories by data set (left, right, or pooled), and notices to the user.

    `occasions`: one of PERIODS, or a CSV with the columns occasion, first and last (days). `side`: left, right, or
    "any" to take all encounters together; None: left and right where any side is known, else pooled. Raises UserError
    for an occasion of the file without effort, and a capture where and when nothing was at work.
    """
    notices: list[str] = []
    days = _days(dataset, notices)
    counted = _counted(dataset, notices)
    periods = _periods(days, counted, occasions, notices)
    effort = {
        place: [sum(o.first <= day <= o.last for day in worked) for o in periods] for place, worked in days.items()
    }
    groups = _flanks(counted, side, notices)
    result = {name: Histories(periods, _captures(mine, periods, effort), effort) for name, mine in groups.items()}
    outside = sum(_occasion(e, periods) is None for e in counted)
    if outside:
        notices.append(f"{outside} encounters are from outside all occasions, and are left out.")
    return result, notices


def effort_csv(found: Histories) -> str:
    """Days at work by place and occasion, for whoever models effort."""
    names = [o.name for o in found.occasions]
    rows = [{"place": p, **dict(zip(names, days, strict=True))} for p, days in sorted(found.effort.items())]
    return csv_text(["place", *names], rows)


def occasions_csv(found: Histories) -> str:
    """The occasions, and the interval from each to the next."""
    after = [*found.intervals, None]
    rows = [{"occasion": o.name, "first": o.first, "last": o.last, "interval": gap}
            for o, gap in zip(found.occasions, after, strict=True)]  # fmt: skip
    return csv_text(["occasion", "first", "last", "interval"], rows)


def place_of(encounter: Encounter) -> str:
    """Where an encounter was."""
    return encounter.place or encounter.deployment_id or NOWHERE


def _days(dataset: Dataset, notices: list[str]) -> dict[str, set[dt.date]]:
    """The days at work by place; a place may have had several deployments."""
    days: dict[str, set[dt.date]] = defaultdict(set)
    for name, e in dataset.deployments.items():
        days[e.deployment.place or name] |= e.days
    unstated = [name for name, e in dataset.deployments.items() if not e.stated]
    if unstated:
        notices.append(
            f"{len(unstated)} deployments ({', '.join(unstated[:3])}) have no start and end: they count as at work "
            "on the "
            "days on which they took a photo. Days without one then look like days off."
        )
    if any(e.place is None and e.deployment_id is None for e in dataset.named()):
        seen = {e.taken_from.date() for e in dataset.named() if e.taken_from and not e.place and not e.deployment_id}
        days[NOWHERE] |= dataset.homeless | seen
        notices.append(
            "Some encounters lie in no deployment: their effort is the days on which photos were taken. "
            "--deployments FILE says more."
        )
    return dict(sorted(days.items()))


def _counted(dataset: Dataset, notices: list[str]) -> list[Encounter]:
    """The encounters with an individual and a time."""
    named = dataset.named()
    if undecided := len(dataset.encounters) - len(named):
        notices.append(f"{undecided} encounters of no decided individual are left out.")
    timed = [e for e in named if e.taken_from is not None]
    if len(timed) < len(named):
        notices.append(f"{len(named) - len(timed)} encounters without a time are left out.")
    if not timed:
        raise UserError(
            "Expected encounters with a decided individual and a time, found none. `pusa gallery decide` names them."
        )
    return timed


def _flanks(counted: Sequence[Encounter], side: str | None, notices: list[str]) -> dict[str, list[Encounter]]:
    known = [e for e in counted if e.sides & set(FLANKS)]
    if side == "any" or (side is None and not known):
        if side is None:
            notices.append("No side is known: all encounters are taken together. That is right where every individual "
                           "is known from both flanks, else it counts some animals twice.")  # fmt: skip
        return {"pooled": list(counted)}
    both = {e.individual for e in counted if e.sides >= set(FLANKS)}
    groups = {
        flank: [e for e in counted if flank in e.sides or e.individual in both]
        for flank in ((side,) if side else FLANKS)
    }
    used = {e.encounter_id for mine in groups.values() for e in mine}
    if not used:
        raise UserError(
            f"Expected encounters that show the {side} flank, found none. --side any takes them all together."
        )
    if unused := sum(e.encounter_id not in used for e in counted):
        notices.append(f"{unused} encounters that show none of the flanks are left out; --side any takes them.")
    apart = {e.individual for e in known if "left" in e.sides} & {
        e.individual for e in known if "right" in e.sides
    } - both
    if apart:
        notices.append(
            f"{len(apart)} individuals ({', '.join(sorted(map(str, apart))[:3])}) are known from both flanks though no "
            "encounter shows both: their left encounters count left, their right ones right."
        )
    return {flank: mine for flank, mine in groups.items() if mine}


def _captures(
    counted: Sequence[Encounter], periods: Sequence[Occasion], effort: dict[str, list[int]]
) -> dict[str, Counter[tuple[int, str]]]:
    captures: dict[str, Counter[tuple[int, str]]] = {}
    for e in sorted(counted, key=lambda e: (str(e.individual), e.encounter_id)):
        k = _occasion(e, periods)
        if k is None:
            continue
        place = place_of(e)
        if not effort.get(place, [0] * len(periods))[k]:
            raise UserError(
                f"{e.individual} was seen at {place} in the occasion {periods[k].name} ({e.encounter_id}, "
                f"{e.taken_from:%Y-%m-%d}), when nothing was at work there. Correct the start and end of its "
                "deployments, "
                "or the camera's clock (clock_shift), with --deployments FILE."
            )
        captures.setdefault(str(e.individual), Counter())[k, place] += 1
    return captures


def _occasion(e: Encounter, periods: Sequence[Occasion]) -> int | None:
    assert e.taken_from is not None
    day = e.taken_from.date()
    return next((k for k, o in enumerate(periods) if o.first <= day <= o.last), None)


def _periods(
    days: dict[str, set[dt.date]], counted: Sequence[Encounter], occasions: str, notices: list[str]
) -> list[Occasion]:
    worked = set().union(*days.values())
    if occasions not in PERIODS:
        if not occasions.lower().endswith(".csv"):
            raise UserError(f"There are no occasions {occasions!r}. Expected {', '.join(PERIODS)}, or a CSV file.")
        found = _from_file(occasions)
        for o in found:
            if not any(o.first <= day <= o.last for day in worked):
                raise UserError(
                    f"{occasions}: the occasion {o.name} ({o.first} to {o.last}) has no effort: no deployment was "
                    "at work. "
                    "Leave it out, or correct the start and end of the deployments with --deployments FILE."
                )
        return found
    every = sorted(worked | {e.taken_from.date() for e in counted if e.taken_from})  # the latter are errors, told below
    names, first, last = _CALENDAR[occasions]
    found = [
        Occasion(name, first(n), last(n), n) for n, name in {names(day)[0]: names(day)[1] for day in every}.items()
    ]
    if gaps := round(found[-1].start - found[0].start) + 1 - len(found):
        notices.append(f"{gaps} {occasions}s without effort are no occasions; the intervals say where they are.")
    return found


def _from_file(path: str) -> list[Occasion]:
    found: list[Occasion] = []
    for line, row in read_csv(path, ("occasion", "first", "last")):
        try:
            first, last = dt.date.fromisoformat(row["first"]), dt.date.fromisoformat(row["last"])
        except ValueError as e:
            raise UserError(f"{path}, line {line}: expected days like 2021-05-01, found {row['first']!r} and "
                            f"{row['last']!r}.") from e  # fmt: skip
        if last < first or (found and first <= found[-1].last):
            raise UserError(f"{path}, line {line}: expected occasions in order that do not overlap, found {first} to "
                            f"{last}.")  # fmt: skip
        found.append(Occasion(row["occasion"], first, last, first.toordinal() / 365.25))
    if not found:
        raise UserError(f"{path}: expected occasions, found none.")
    return found


def _month(n: int) -> dt.date:
    return dt.date(n // 12, n % 12 + 1, 1)


# Of each period: its number and name for a day, and its first and last day for a number.
_CALENDAR: dict[str, tuple[Callable, Callable, Callable]] = {  # type: ignore[type-arg]
    "day": (lambda d: (d.toordinal(), f"{d}"), dt.date.fromordinal, dt.date.fromordinal),
    "week": (
        lambda d: ((d.toordinal() - 1) // 7, f"{d.isocalendar()[0]}-W{d.isocalendar()[1]:02}"),
        lambda n: dt.date.fromordinal(7 * n + 1),
        lambda n: dt.date.fromordinal(7 * n + 7),
    ),
    "month": (
        lambda d: (12 * d.year + d.month - 1, f"{d:%Y-%m}"),
        _month,
        lambda n: _month(n + 1) - dt.timedelta(1),
    ),
    "year": (lambda d: (d.year, str(d.year)), lambda n: dt.date(n, 1, 1), lambda n: dt.date(n, 12, 31)),
}
