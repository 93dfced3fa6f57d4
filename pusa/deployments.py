"""Deployments: where a camera stood, when, and how wrong its clock was."""

from __future__ import annotations

import datetime as dt
import math
import re
import zoneinfo
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pusa.errors import UserError
from pusa.exchange.tables import read_csv
from pusa.listing import normal_path
from pusa.records import DEPLOYMENTS
from pusa.sequences import parse_duration

MAX_SHIFT = 100 * 365 * 86400.0  # seconds; a camera whose clock was never set starts in 1970 or 2000


@dataclass(frozen=True)
class Deployment:
    """A camera at a place for a time. `folder`: the folder of its photos, "" for the whole archive. Times are local."""

    deployment_id: str
    folder: str | None  # None: photos say themselves which deployment they are of
    place: str | None = None
    latitude: float | None = None  # WGS84 degrees
    longitude: float | None = None
    time_zone: str | None = None  # IANA name
    clock_shift: float = 0.0  # seconds to add to the camera's time
    start: dt.datetime | None = None
    end: dt.datetime | None = None

    def local(self, taken_at: dt.datetime) -> dt.datetime:
        """The camera's time, corrected."""
        try:
            return taken_at + dt.timedelta(seconds=self.clock_shift)
        except OverflowError:  # a camera in the year 9999
            return taken_at


def parse_shift(text: str) -> float:
    """Seconds of a clock shift: "3600", "-90", "+1h", "-00:30:00", "+02:00". Raises UserError for anything else."""
    match = re.fullmatch(r"([+-]?)\s*(?:(\d+(?:\.\d+)?)|(\d+):([0-5]\d)(?::([0-5]\d))?|(\d.*))", text.strip())
    if not match:
        raise UserError(f"{text!r} is no clock shift. Expected seconds, or something like +1h or -00:30:00.")
    sign, seconds, h, m, s, duration = match.groups()
    total = float(seconds) if seconds else parse_duration(duration) if duration else int(h) * 3600 + int(m) * 60
    if total > MAX_SHIFT:
        raise UserError(f"{text!r} is a clock shift of over a hundred years. Expected seconds, or something like +1h.")
    return math.copysign(total + int(s or 0), -1 if sign == "-" else 1)


def read_deployments(path: str) -> list[Deployment]:
    """Deployments from a CSV with the columns deployment_id, folder and any of place, latitude, longitude, time_zone,
    clock_shift, start, end; or from Camtrap DP. An `end` that is only a date includes that day.

    Raises UserError naming the line and the column that do not fit.
    """
    from pusa.exchange import camtrap_dp_in, kind_of  # they need the class above

    if kind_of(path) == "camtrap-dp":
        return camtrap_dp_in.read(path)[2]
    columns = tuple(Deployment.__dataclass_fields__)
    deployments: list[Deployment] = []
    seen: set[tuple[str, str]] = set()
    for line, row in read_csv(path, required=("deployment_id", "folder"), known=columns):
        values: dict[str, Any] = {}
        for column, text in row.items():
            try:
                values[column] = _PARSERS[column](text) if text else None
            except (ValueError, UserError) as e:
                raise UserError(f"{path}, line {line}, column {column}: {e}") from e
        if not row["deployment_id"] or not row["folder"]:
            empty = "folder" if row["deployment_id"] else "deployment_id"
            raise UserError(f'{path}, line {line}, column {empty}: it is empty ("." is the whole archive).')
        deployment = Deployment(**{k: v for k, v in values.items() if v is not None})
        for column in ("deployment_id", "folder"):
            key = column, values[column]
            if key in seen:
                raise UserError(f"{path}, line {line}, column {column}: {row[column]} is there twice.")
            seen.add(key)
        if deployment.start and deployment.end and deployment.end < deployment.start:
            raise UserError(
                f"{path}, line {line}, column end: {deployment.end} is before the start {deployment.start}."
            )
        deployments.append(deployment)
    return deployments


def deployments_table(deployments: Sequence[Deployment]) -> pa.Table:
    """The deployments as a table of the run (schema DEPLOYMENTS)."""
    return pa.table({n: [getattr(d, n) for d in deployments] for n in DEPLOYMENTS.names}, schema=DEPLOYMENTS)


def deployment_of(path: str, by_folder: dict[str, Deployment]) -> Deployment | None:
    """The deployment of the deepest folder that a photo lies in; `by_folder` maps normal paths of folders."""
    folder = normal_path(path)
    while folder:
        folder = folder.rpartition("/")[0]
        if folder in by_folder:
            return by_folder[folder]
    return None


def _degrees(text: str, limit: float) -> float:
    value = float(text.replace(",", "."))
    if not abs(value) <= limit:
        raise ValueError(f"expected degrees from {-limit:g} to {limit:g}, found {text}")
    return value


def _time_zone(text: str) -> str:
    try:
        return zoneinfo.ZoneInfo(text).key
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as e:
        raise ValueError(f"no time zone is called {text!r}; expected a name like Europe/Helsinki") from e


def _local_time(text: str, end: bool = False) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError as e:
        raise ValueError(f"expected a time like 2021-05-01 or 2021-05-01T10:30, found {text!r}") from e
    if time.tzinfo is not None:
        raise ValueError(f"expected local time without an offset, found {text!r}; the zone has its own column")
    return time + dt.timedelta(days=1, milliseconds=-1) if end and len(text) <= 10 else time


_PARSERS: dict[str, Callable[[str], Any]] = {
    "deployment_id": str,
    "folder": lambda text: normal_path(text) if normal_path(text) != "." else "",
    "place": str,
    "latitude": lambda text: _degrees(text, 90),
    "longitude": lambda text: _degrees(text, 180),
    "time_zone": _time_zone,
    "clock_shift": parse_shift,
    "start": _local_time,
    "end": lambda text: _local_time(text, end=True),
}
