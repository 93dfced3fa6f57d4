"""Camtrap DP written: a gallery as a package, checked against the standard before anything is saved."""

from __future__ import annotations

import datetime as dt
import json
import mimetypes
import posixpath
import zoneinfo
from collections.abc import Mapping
from typing import Any

from pusa import __version__
from pusa.deployments import Deployment
from pusa.errors import UserError
from pusa.exchange.camtrap_dp import HOME, PACKAGE, TABLES, columns, parse
from pusa.exchange.dataset import Dataset, Effort, Encounter, Instance, Photo
from pusa.exchange.table_schema import Row
from pusa.exchange.tables import csv_text, named

METADATA = """\
title: Ringed seals of Lake Ladoga
contributors:
  - title: Your name
    role: contact
project:
  title: Photo-identification of Ladoga ringed seals samplingDesign: targeted          # simpleRandom,
  systematicRandom, clusteredRandom, experimental, targeted, opportunistic captureMethod: [activityDetection]  # or
  timeLapse
taxonomic:
  - scientificName: Pusa hispida ladogensis
"""  # what `--metadata` is to hold


def write(
    dataset: Dataset, metadata: Mapping[str, Any], created: dt.datetime | None = None
) -> tuple[dict[str, str], list[str]]:
    """The files of the package by name, and notices to the user.

    `metadata`: keys of datapackage.json, at least those of METADATA. Raises UserError where one is missing, or a photo
    has no deployment, or a deployment no place.
    """
    _check_metadata(metadata)
    _check_deployments(dataset)
    timed = [i for i in dataset.instances if i.photo.taken_at is not None]
    photos = {i.photo.photo_id: i.photo for i in timed}
    members: dict[str, list[Instance]] = {}
    for instance in timed:
        members.setdefault(instance.encounter_id, []).append(instance)
    species = metadata["taxonomic"][0]["scientificName"]
    method = metadata["project"].get("captureMethod")
    every = sorted(photos.values(), key=lambda p: p.path)
    media = [_media(photo, method, dataset.deployments) for photo in every]
    events = [
        _event(e, members[e.encounter_id], species, dataset) for e in dataset.encounters if e.encounter_id in members
    ]
    rows = {
        "deployments": [_deployment(e) for e in dataset.deployments.values()],
        "media": media,
        "observations": events + [_instance(i, species, dataset.deployments) for i in timed],
    }
    files = {f"{name}.csv": csv_text(columns(name), rows[name]) for name in TABLES}
    package = _package(dataset, metadata, created or dt.datetime.now(dt.UTC))
    files = {PACKAGE: json.dumps(package, indent=2, ensure_ascii=False) + "\n"} | files
    parse(files, "The package")
    return files, _notices(dataset, photos)


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    project = metadata.get("project") if isinstance(metadata.get("project"), Mapping) else {}
    missing = [key for key in ("contributors", "taxonomic") if not metadata.get(key)]
    missing += [f"project.{key}" for key in ("title", "samplingDesign", "captureMethod") if not project.get(key)]  # type: ignore[union-attr]
    if missing:
        raise UserError(
            f"Camtrap DP needs what only you know: {', '.join(missing)}. Give it with --metadata FILE, such "
            f"as:\n{METADATA}"
        )


def _check_deployments(dataset: Dataset) -> None:
    homeless = sorted({i.photo.path for i in dataset.instances if i.photo.deployment_id not in dataset.deployments})
    remedy = "Give --deployments FILE, a CSV with deployment_id, folder, latitude, longitude, time_zone, start, end."
    if not dataset.instances:
        raise UserError("Camtrap DP needs photos; nothing is known of those behind this gallery. Enroll its runs anew.")
    if homeless:
        raise UserError(f"Camtrap DP needs the deployment of every photo; {named(homeless)} lie in none. {remedy}")
    for name, e in dataset.deployments.items():
        if e.deployment.latitude is None or e.deployment.longitude is None:
            raise UserError(f"Camtrap DP needs latitude and longitude of every deployment; {name} has none. {remedy}")
        if not e.days and not e.stated:
            raise UserError(
                f"Camtrap DP needs start and end of every deployment; {name} has none, nor photos with a time. {remedy}"
            )


def _deployment(e: Effort) -> Row:
    d = e.deployment
    start = d.start if e.stated else dt.datetime.combine(min(e.days), dt.time())
    end = d.end if e.stated else dt.datetime.combine(max(e.days), dt.time(23, 59, 59))
    comments = [] if e.stated else ["start and end are the days of the first and last photo"]
    comments += [] if d.time_zone else ["time zone unknown: local times, written as if UTC"]
    return {
        "deploymentID": d.deployment_id,
        "locationID": d.place,
        "locationName": d.place,
        "latitude": d.latitude,
        "longitude": d.longitude,
        "deploymentStart": _stamp(start, d),
        "deploymentEnd": _stamp(end, d),
        "timestampIssues": d.time_zone is None,
        "deploymentTags": f"timeZone:{d.time_zone}" if d.time_zone else None,
        "deploymentComments": "; ".join(comments) or None,
    }


def _media(photo: Photo, method: Any, deployments: Mapping[str, Effort]) -> Row:
    return {
        "mediaID": photo.photo_id,
        "deploymentID": photo.deployment_id,
        "captureMethod": method[0] if len(method) == 1 else None,
        "timestamp": _stamp(photo.taken_at, deployments[str(photo.deployment_id)].deployment),
        "filePath": photo.path,
        "filePublic": False,
        "fileName": posixpath.basename(photo.path),
        "fileMediatype": mimetypes.guess_type(photo.path)[0] or f"image/{photo.path.rpartition('.')[2].lower()}",
    }


def _event(e: Encounter, members: list[Instance], species: str, dataset: Dataset) -> Row:
    times = [i.photo.taken_at for i in members if i.photo.taken_at]
    d = dataset.deployments[str(e.deployment_id)].deployment
    tags = {"side": "+".join(sorted(e.sides - {"unknown"})), "sequence": e.sequence_id, "decision": e.decision_id}
    return {
        "observationID": e.encounter_id,
        "deploymentID": e.deployment_id,
        "eventID": e.encounter_id,
        "eventStart": _stamp(min(times), d),
        "eventEnd": _stamp(max(times), d),
        "observationLevel": "event",
        "observationType": "animal",
        "scientificName": species,
        "count": 1,
        "individualID": e.individual,
        "classificationMethod": "human" if e.decided_by else None,
        "classifiedBy": e.decided_by,
        "classificationTimestamp": e.decided_at and e.decided_at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "observationTags": _tags(tags),
    }


def _instance(i: Instance, species: str, deployments: Mapping[str, Effort]) -> Row:
    time = _stamp(i.photo.taken_at, deployments[str(i.photo.deployment_id)].deployment)
    w, h = i.photo.width, i.photo.height
    x0, x1 = (min(max(x / w, 0.0), 1.0) for x in i.box[::2])
    y0, y1 = (min(max(y / h, 0.0), 1.0) for y in i.box[1::2])
    return {
        "observationID": i.instance_id,
        "deploymentID": i.photo.deployment_id,
        "mediaID": i.photo.photo_id,
        "eventID": i.encounter_id,
        "eventStart": time,
        "eventEnd": time,
        "observationLevel": "media",
        "observationType": "animal",
        "scientificName": species,
        "count": 1,
        "individualID": i.individual,
        "bboxX": x0,
        "bboxY": y0,
        "bboxWidth": x1 - x0,
        "bboxHeight": y1 - y0,
        "classificationMethod": None if i.score is None else "machine",
        "classifiedBy": None if i.score is None else f"Pusa {__version__}",
        "classificationProbability": i.score,
        "observationTags": _tags({"side": i.side.replace("unknown", ""), "sequence": i.photo.sequence_id}),
    }


def _tags(tags: Mapping[str, str | None]) -> str | None:
    return " | ".join(f"{key}:{value.replace('|', '/')}" for key, value in tags.items() if value) or None


def _stamp(time: dt.datetime | None, d: Deployment) -> str:
    """A deployment's local time as ISO 8601 with its offset; as if UTC where the time zone is not known."""
    assert time is not None
    zone = zoneinfo.ZoneInfo(d.time_zone) if d.time_zone else dt.UTC
    text = time.replace(tzinfo=zone).isoformat(timespec="seconds")
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


def _package(dataset: Dataset, metadata: Mapping[str, Any], created: dt.datetime) -> dict[str, Any]:
    resources = [
        {"name": name, "path": f"{name}.csv", "profile": "tabular-data-resource", "format": "csv",
         "mediatype": "text/csv", "encoding": "utf-8", "schema": f"{HOME}/{name}-table-schema.json"}
        for name in TABLES
    ]  # fmt: skip
    effort = [_deployment(e) for e in dataset.deployments.values()]
    x, y = ([row[key] for row in effort] for key in ("longitude", "latitude"))
    west, east, south, north = min(x), max(x), min(y), max(y)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    single = west == east and south == north
    return {
        "resources": resources,
        "profile": f"{HOME}/camtrap-dp-profile.json",
        "created": created.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "sources": [{"title": "Pusa", "version": __version__}],
        "spatial": {"type": "Point", "coordinates": [west, south]} if single else
                   {"type": "Polygon", "coordinates": [ring]},
        "temporal": {"start": min(row["deploymentStart"] for row in effort)[:10],
                     "end": max(row["deploymentEnd"] for row in effort)[:10]},
        **metadata,
        "project": {"individualAnimals": True, "observationLevel": ["media", "event"], **metadata["project"]},
    }  # fmt: skip


def _notices(dataset: Dataset, photos: Mapping[str, Photo]) -> list[str]:
    timeless = sorted({i.photo.path for i in dataset.instances if i.photo.taken_at is None})
    notices = [f"{named(timeless)} without a time are left out: Camtrap DP needs one."] if timeless else []
    outside: list[str] = []
    for photo in photos.values():
        d = dataset.deployments[str(photo.deployment_id)].deployment
        if (d.start and photo.taken_at < d.start) or (d.end and photo.taken_at > d.end):  # type: ignore[operator]
            outside.append(photo.path)
    if outside:
        notices.append(f"{named(sorted(outside))} are from outside the start and end of their deployment.")
    if unzoned := [name for name, e in dataset.deployments.items() if e.deployment.time_zone is None]:
        notices.append(
            f"{len(unzoned)} deployments ({', '.join(unzoned[:3])}) have no time zone: their local times are "
            "written as "
            "if UTC, and timestampIssues is true. Add the column time_zone, such as Europe/Helsinki."
        )
    shown = {i.encounter_id for i in dataset.instances}
    unseen = sum(e.encounter_id not in shown for e in dataset.encounters)
    return notices + ([f"{unseen} encounters without photos are left out."] if unseen else [])
