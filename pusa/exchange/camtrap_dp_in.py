"""Camtrap DP read: the animals in each photo, what the package says of each photo, and its deployments.

Media-level observations give boxes, sides and individuals; where there are none, the individual of an event with a
single animal is that of its photos, since nothing says which of several is where. Photos are called by filePath,
relative to the archive; by fileName where filePath is an address on the web. Times become local: as their offset says,
or, where they are in UTC, as the deployment's does.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Sequence

from pusa import storage
from pusa.deployments import Deployment
from pusa.errors import UserError
from pusa.exchange import given
from pusa.exchange.camtrap_dp import PACKAGE, parse, paths, tags_of
from pusa.exchange.given import Given, Listed
from pusa.exchange.table_schema import Row
from pusa.listing import normal_path
from pusa.records import SIDES

Read = tuple[dict[str, list[Given]], dict[str, Listed], list[Deployment]]


def read(folder: str) -> Read:
    """Instances by photo, what is said of each photo, and deployments of the package in a folder (or of its
    datapackage.json). Raises UserError for what does not fit the standard."""
    root = folder.rstrip("/").removesuffix(PACKAGE).rstrip("/") or "."
    files = {PACKAGE: _text(root, PACKAGE)}
    files |= {path: _text(root, path) for _, path in paths(_json(files[PACKAGE], root))}
    _, tables = parse(files, root)
    zones = {row["deploymentID"]: _zone(row) for row in tables["deployments"]}
    names = _names(tables["media"], root)
    sequences = _sequences(tables["observations"])
    photos = {
        names[row["mediaID"]]: Listed(
            _local(row["timestamp"], zones[row["deploymentID"]]), row["deploymentID"], sequences.get(row["mediaID"])
        )
        for row in tables["media"]
    }
    instances = _instances(tables, names, root)
    return instances, photos, [_deployment(row) for row in tables["deployments"]]


def _json(text: str, root: str) -> dict:  # type: ignore[type-arg]
    import json

    try:
        package = json.loads(text)
    except ValueError as e:
        raise UserError(f"{root}/{PACKAGE} is not valid JSON: {e}.") from e
    if not isinstance(package, dict) or not isinstance(package.get("resources"), list):
        raise UserError(f"{root}/{PACKAGE}: expected a data package with resources.")
    return package


def _text(root: str, name: str) -> str:
    filesystem, where = storage.locate(root)
    try:
        return storage.read_bytes(filesystem, f"{where}/{name}").decode("utf-8-sig")
    except OSError as e:
        raise UserError(f"Cannot read {root}/{name}: {e.strerror or e}.") from e
    except UnicodeDecodeError as e:
        raise UserError(f"{root}/{name} is not UTF-8 (byte {e.start}).") from e


def _names(media: Sequence[Row], source: str) -> dict[str, str]:
    """What each photo is called in the archive, by mediaID."""
    names: dict[str, str] = {}
    for row in media:
        path = row["fileName"] if "://" in row["filePath"] and row["fileName"] else row["filePath"]
        names[row["mediaID"]] = normal_path(path)
    if len(set(names.values())) < len(names):
        twice = next(n for n in names.values() if list(names.values()).count(n) > 1)
        raise UserError(
            f"{source}: expected one row of media a file, found several called {twice}. Give relative filePaths that "
            "tell them apart."
        )
    return names


def _sequences(observations: Sequence[Row]) -> dict[str, str]:
    """The sequence of each photo: as a tag says, else its event; events that share a photo are one sequence."""
    parent: dict[str, str] = {}

    def root(event: str) -> str:
        while parent.setdefault(event, event) != event:
            event = parent[event]
        return event

    first: dict[str, str] = {}
    tagged: dict[str, str] = {}
    for row in observations:
        media, event = row["mediaID"], row["eventID"]
        if media is None:
            continue
        if sequence := tags_of(row["observationTags"]).get("sequence"):
            tagged[media] = sequence
        if event is not None:
            one, other = sorted((root(first.setdefault(media, event)), root(event)))
            parent[other] = one
    return {media: root(event) for media, event in first.items()} | tagged


def _instances(tables: dict[str, list[Row]], names: dict[str, str], source: str) -> dict[str, list[Given]]:
    instances: dict[str, list[Given]] = {name: [] for name in names.values()}
    animals = [row for row in tables["observations"] if row["observationType"] == "animal"]
    if any(row["mediaID"] for row in animals):
        for row in animals:
            if row["mediaID"] is not None:
                instances[names[row["mediaID"]]].append(_given(row, source))
    else:
        for row in _single(animals):
            for media in tables["media"]:
                during = row["eventStart"] <= media["timestamp"] <= row["eventEnd"]
                if media["deploymentID"] == row["deploymentID"] and during:
                    instances[names[media["mediaID"]]].append(_given(row, source))
    given.check_names(instances, source)
    return instances


def _single(events: Sequence[Row]) -> list[Row]:
    """Rows of the level event whose event has one animal."""
    rows: dict[tuple[object, ...], list[Row]] = {}
    for row in events:
        rows.setdefault((row["deploymentID"], row["eventID"] or row["observationID"]), []).append(row)
    return [found[0] for found in rows.values() if len(found) == 1 and found[0]["count"] in (1, None)]


def _given(row: Row, source: str) -> Given:
    values = [row[name] for name in ("bboxX", "bboxY", "bboxWidth", "bboxHeight")]
    where = f"{source}, observation {row['observationID']}"
    box = (0.0, 0.0, 1.0, 1.0) if None in values else given.corners(values, where)
    given.check_fractions(box, where)
    side = tags_of(row["observationTags"]).get("side", "unknown")
    return Given(
        box=box,
        fractions=True,
        score=row["classificationProbability"] if row["classificationMethod"] == "machine" else None,
        side=side if side in SIDES else "unknown",
        identity=given.identity(row["individualID"]),
        id=row["observationID"],
    )


def _deployment(row: Row) -> Deployment:
    start, end = row["deploymentStart"], row["deploymentEnd"]
    return Deployment(
        deployment_id=row["deploymentID"],
        folder=None,
        place=row["locationName"] or row["locationID"],
        latitude=row["latitude"],
        longitude=row["longitude"],
        time_zone=tags_of(row["deploymentTags"]).get("timeZone"),
        start=start.replace(tzinfo=None),
        end=end.replace(tzinfo=None),
    )


def _zone(row: Row) -> dt.tzinfo:
    name = tags_of(row["deploymentTags"]).get("timeZone")
    return zoneinfo.ZoneInfo(name) if name in zoneinfo.available_timezones() else row["deploymentStart"].tzinfo  # type: ignore[arg-type]


def _local(time: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    if not time.utcoffset():
        time = time.astimezone(zone)
    return time.replace(tzinfo=None)
