"""Plain CSV tables of a gallery, for spreadsheets, R and pandas: individuals, encounters, instances, deployments."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from pusa.exchange.captures import place_of
from pusa.exchange.dataset import Dataset, Encounter
from pusa.exchange.tables import csv_text

INDIVIDUALS = ("individual", "encounters", "first_seen", "last_seen", "places", "sides")
ENCOUNTERS = ("encounter_id", "individual", "sequence_id", "deployment_id", "place", "taken_from", "taken_to", "sides",
              "decided_by", "decided_at", "decision_id")  # fmt: skip
INSTANCES = ("instance_id", "encounter_id", "individual", "photo", "taken_at", "camera", "width", "height", "side",
             "x0", "y0", "x1", "y1", "score")  # fmt: skip
DEPLOYMENTS = ("deployment_id", "place", "latitude", "longitude", "time_zone", "start", "end", "days")


def write(dataset: Dataset) -> dict[str, str]:
    """The tables by file name. Boxes are x0, y0, x1, y1 in pixels of the upright photo, times are local; `days` are
    those at work, `sides` are joined by +."""
    return {
        "individuals.csv": csv_text(INDIVIDUALS, individuals(dataset.named())),
        "encounters.csv": csv_text(ENCOUNTERS, map(_encounter, dataset.encounters)),
        "instances.csv": csv_text(INSTANCES, map(_instance, dataset.instances)),
        "deployments.csv": csv_text(DEPLOYMENTS, map(_deployment, dataset.deployments.values())),
    }


def individuals(named: Sequence[Encounter]) -> list[dict[str, Any]]:
    """One row an individual: how often, when and where it was seen, by name."""
    members: dict[str, list[Encounter]] = {}
    for e in named:
        members.setdefault(str(e.individual), []).append(e)
    return [_individual(name, members[name]) for name in sorted(members)]


def _individual(name: str, mine: Sequence[Encounter]) -> dict[str, Any]:
    first = [e.taken_from for e in mine if e.taken_from]
    last = [e.taken_to or e.taken_from for e in mine if e.taken_from]
    return {
        "individual": name,
        "encounters": len(mine),
        "first_seen": min(first).date() if first else None,
        "last_seen": max(t for t in last if t).date() if last else None,
        "places": "; ".join(sorted({place_of(e) for e in mine})),
        "sides": _joined(set().union(*(e.sides for e in mine))),
    }


def _encounter(e: Encounter) -> Mapping[str, Any]:
    return vars(e) | {"sides": _joined(e.sides), "taken_from": _time(e.taken_from), "taken_to": _time(e.taken_to),
                      "decided_at": e.decided_at and e.decided_at.strftime("%Y-%m-%d %H:%M:%SZ")}  # fmt: skip


def _instance(i: Any) -> Mapping[str, Any]:
    corners = dict(zip(("x0", "y0", "x1", "y1"), i.box, strict=True))
    return vars(i) | vars(i.photo) | corners | {"photo": i.photo.path, "taken_at": _time(i.photo.taken_at)}


def _deployment(e: Any) -> Mapping[str, Any]:
    d = e.deployment
    return vars(d) | {
        "start": _time(d.start),
        "end": _time(d.end),
        "days": len(e.days),
    }


def _joined(sides: Any) -> str:
    return "+".join(sorted(sides - {"unknown"}))


def _time(time: dt.datetime | None) -> str | None:
    return None if time is None else time.isoformat(" ", "milliseconds").removesuffix(".000")
