"""What goes out of a gallery, as every writer of this package takes it: photos, instances, encounters, deployments."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pusa.deployments import Deployment  # reads its CSV by this package


@dataclass(frozen=True)
class Photo:
    """`path` is relative to the dataset's root; `taken_at` is local time, corrected; `width`, `height` of the upright
    photo, in pixels."""

    photo_id: str
    path: str
    width: int
    height: int
    sequence_id: str
    taken_at: dt.datetime | None = None
    deployment_id: str | None = None
    camera: str | None = None


@dataclass(frozen=True)
class Instance:
    """`box`: x0, y0, x1, y1 in pixels of the upright photo. `mask`: compressed COCO RLE of it. `individual`: None where
    nobody has decided."""

    instance_id: str
    photo: Photo
    encounter_id: str
    box: tuple[float, float, float, float]
    individual: str | None = None
    side: str = "unknown"
    score: float | None = None
    mask: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Encounter:
    """`sides`: all that its instances show. `decided_by`, `decided_at`, `decision_id`: of the name, None without "
    "one."""

    encounter_id: str
    sequence_id: str
    sides: frozenset[str]
    individual: str | None = None
    taken_from: dt.datetime | None = None
    taken_to: dt.datetime | None = None
    place: str | None = None
    deployment_id: str | None = None
    decided_by: str | None = None
    decided_at: dt.datetime | None = None
    decision_id: str | None = None


@dataclass(frozen=True)
class Effort:
    """A deployment and the `days` on which it was at work: all from its start to its end where these are known, else
    those on which it took a photo (`stated` is false then)."""

    deployment: Deployment
    days: frozenset[dt.date]
    stated: bool


@dataclass(frozen=True)
class Dataset:
    """Sorted by id. `root` is what paths are relative to. `homeless`: days on which photos of no deployment were taken.
    `notices` are for the user: what is missing, and why."""

    instances: list[Instance]
    encounters: list[Encounter]
    deployments: dict[str, Effort] = field(default_factory=dict)
    homeless: frozenset[dt.date] = frozenset()
    root: str = ""
    notices: list[str] = field(default_factory=list)

    @property
    def photos(self) -> list[Photo]:
        return sorted({i.photo.photo_id: i.photo for i in self.instances}.values(), key=lambda p: p.path)

    def named(self) -> list[Encounter]:
        """The encounters whose individual is decided."""
        return [e for e in self.encounters if e.individual is not None]


def effort(deployment: Deployment, photo_days: Collection[dt.date]) -> Effort:
    """The effort of a deployment that took photos on `photo_days`."""
    if deployment.start is None or deployment.end is None:
        return Effort(deployment, frozenset(photo_days), stated=False)
    first, last = deployment.start.date(), deployment.end.date()
    return Effort(deployment, frozenset(first + dt.timedelta(n) for n in range((last - first).days + 1)), stated=True)


def twice(instances: Collection[Instance]) -> list[str]:
    """Photos that show an individual more than once, as "PATH (NAMES)"."""
    seen = Counter((i.photo.path, i.individual) for i in instances if i.individual is not None)
    names: dict[str, list[str]] = {}
    for (path, name), n in sorted(seen.items()):
        if n > 1:
            names.setdefault(path, []).append(name)
    return [f"{path} ({', '.join(found)})" for path, found in names.items()]
