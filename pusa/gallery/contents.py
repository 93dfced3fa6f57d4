"""The contents of a gallery as a dataset to be exported or reported on: who was where and when, by what is decided."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile
from types import MappingProxyType
from typing import Any

from pusa.deployments import Deployment, deployment_of, read_deployments
from pusa.exchange import Listed, dataset, read_photos
from pusa.exchange.dataset import Dataset, Encounter, Instance, Photo
from pusa.exchange.tables import named
from pusa.gallery import sources
from pusa.gallery.journal import Decision, Key
from pusa.gallery.store import Gallery
from pusa.listing import normal_path
from pusa.records import DEPLOYMENTS

ENCOUNTER = ["run", "encounter_id", "sequence_id", "place", "taken_from", "taken_to", "side"]


def contents(
    gallery: Gallery,
    deployments: Sequence[Deployment] = (),
    masks: bool = True,
    listed: Mapping[str, Listed] = MappingProxyType({}),
) -> Dataset:
    """All encounters of a gallery less those that show no animal, and their instances less crops that were taken out.

    `deployments` take the place of those that the runs were made with, their clock shifts, too; a photo is in the one
    that `listed` has for its path, else in the one whose folder it lies in. Ids and paths of a gallery of several runs
    begin with what tells the runs and archives apart.
    """
    rows = gallery.encounters.search().select(ENCOUNTER).to_arrow().to_pylist()
    decisions, found = gallery.decisions(), gallery.catalogue()
    makers = _makers(decisions, {*found.undone, *found.void})
    animals = {(row["run"], row["encounter_id"]): row for row in rows}
    animals = {key: row for key, row in animals.items() if found.verdicts.get(key) != "not_animal"}
    kept = sources.read(gallery, animals, masks)
    archives = dict(zip(*kept["runs"].select(["run", "archive"]).to_pydict().values(), strict=True))
    worked = kept["effort"].to_pylist()
    photos = _Photos(_prefixes({run for run, _ in animals}, ":"), archives, worked, deployments, listed)
    members: dict[Key, list[Instance]] = {}
    for row in kept["instances"].to_pylist():
        key = row["run"], row["encounter_id"]
        if key in animals and row["instance_id"] not in found.crops.get(key, ()):
            members.setdefault(key, []).append(_instance(row, photos, found.names.get(key)))
    effort = photos.effort()
    encounters = [
        _encounter(row, members.get(key, []), found.names.get(key), makers.get(key), photos.label[key[0]], effort)
        for key, row in animals.items()
    ]
    instances = sorted((i for mine in members.values() for i in mine), key=lambda i: (i.photo.path, i.instance_id))
    homeless = frozenset(day for row in worked if row["deployment_id"] is None for day in row["days"])
    return Dataset(
        instances,
        sorted(encounters, key=lambda e: e.encounter_id),
        effort,
        homeless,
        root=_common(set(archives.values())),
        notices=_notices(gallery, animals, members, instances, found.crops),
    )


def contents_with(gallery: Gallery, deployments: str | None, masks: bool = True) -> Dataset:
    """`contents` with the deployments of a file (`read_deployments`), or with those of the runs."""
    if deployments is None:
        return contents(gallery, masks=masks)
    return contents(gallery, read_deployments(deployments), masks, read_photos(deployments))


class _Photos:
    """The photos of a gallery's instances, each once, with what tells runs and archives apart, and their "
    "deployments."""

    def __init__(
        self,
        label: dict[str, str],
        archives: dict[str, str],
        worked: Sequence[dict[str, Any]],
        deployments: Sequence[Deployment],
        listed: Mapping[str, Listed],
    ) -> None:
        self.label = label  # what ids of a run begin with
        self.below = _prefixes(set(archives.values()), "/")  # what paths of an archive begin with
        self.archives = archives
        self.recorded = _effort(worked, label)
        self.shifts = {(row["run"], row["deployment_id"]): row["clock_shift"] or 0.0 for row in worked}
        self.deployments = deployments
        self.by_folder = {d.folder: d for d in deployments if d.folder is not None}
        self.by_id = {d.deployment_id: d for d in deployments}
        self.listed = listed
        self.known: dict[tuple[str, str], Photo] = {}

    def of(self, row: dict[str, Any]) -> Photo:
        """The photo of an instance's row."""
        name = row["run"], row["photo_id"]
        if name not in self.known:
            deployment_id, taken_at = self.placed(row)
            self.known[name] = Photo(
                photo_id=self.label[row["run"]] + row["photo_id"],
                path=self.below.get(self.archives.get(row["run"], ""), "") + row["path"],
                width=row["width"],
                height=row["height"],
                sequence_id=self.label[row["run"]] + row["sequence_id"],
                taken_at=taken_at,
                deployment_id=deployment_id,
                camera=row["camera"],
            )
        return self.known[name]

    def placed(self, row: dict[str, Any]) -> tuple[str | None, dt.datetime | None]:
        """The deployment of a photo, and its time, corrected by that deployment's clock shift in place of the old."""
        old, taken_at = row["deployment_id"], row["taken_at"]
        if not self.deployments:
            return old if old is None or old in self.recorded else self.label[row["run"]] + old, taken_at
        told = self.listed.get(normal_path(row["path"]), Listed())
        new = self.by_id.get(told.deployment_id or "") or deployment_of(row["path"], self.by_folder)
        if new is None or taken_at is None:
            return new.deployment_id if new else None, taken_at
        shift = new.clock_shift - self.shifts.get((row["run"], old), 0.0)
        return new.deployment_id, told.taken_at or taken_at + dt.timedelta(seconds=shift)

    def effort(self) -> dict[str, dataset.Effort]:
        """Of all deployments, by id, after all photos are known."""
        if not self.deployments:
            return self.recorded
        days: dict[str, set[dt.date]] = {}
        for photo in self.known.values():
            if photo.deployment_id and photo.taken_at:
                days.setdefault(photo.deployment_id, set()).add(photo.taken_at.date())
        return {d.deployment_id: dataset.effort(d, days.get(d.deployment_id, ())) for d in self.deployments}


def _instance(row: dict[str, Any], photos: _Photos, name: str | None) -> Instance:
    label = photos.label[row["run"]]
    return Instance(
        instance_id=label + row["instance_id"],
        photo=photos.of(row),
        encounter_id=label + row["encounter_id"],
        box=tuple(row["box"]),
        individual=name,
        side=row["side"],
        score=row["score"],
        mask=row.get("mask"),
    )


def _encounter(
    row: dict[str, Any],
    members: Sequence[Instance],
    name: str | None,
    maker: Decision | None,
    label: str,
    effort: dict[str, dataset.Effort],
) -> Encounter:
    where = Counter(i.photo.deployment_id for i in members if i.photo.deployment_id)
    deployment_id = min(where, key=lambda d: (-where[d], d)) if where else None
    place = effort[deployment_id].deployment.place if deployment_id in effort else None
    sides = {i.side for i in members} or {row["side"] or "unknown"}
    times = [i.photo.taken_at for i in members if i.photo.taken_at]
    return Encounter(
        encounter_id=label + row["encounter_id"],
        sequence_id=label + (row["sequence_id"] or row["encounter_id"]),
        sides=frozenset(sides),
        individual=name,
        taken_from=min(times) if times else row["taken_from"],
        taken_to=max(times) if times else row["taken_to"],
        place=place or row["place"],
        deployment_id=deployment_id,
        decided_by=maker.by if maker and name else None,
        decided_at=maker.made_at if maker and name else None,
        decision_id=maker.decision_id if maker and name else None,
    )


def _makers(decisions: Sequence[Decision], without: set[str]) -> dict[Key, Decision]:
    """The last decision that said who an encounter is."""
    return {
        key: d
        for d in decisions
        if d.kind in ("same", "new", "split") and d.instance_id is None and d.decision_id not in without
        for key in d.encounters
    }


def _prefixes(names: set[str], separator: str) -> dict[str, str]:
    """What to put before ids or paths to tell `names` (of runs or archives) apart: nothing for a single one."""
    if len(names) < 2:
        return dict.fromkeys(names, "")
    start = len(_common(names))
    short = {name: name[start:].strip("/") for name in names}
    return {name: f"{text}{separator}" if text else "" for name, text in short.items()}


def _common(names: set[str]) -> str:
    """The folder that all lie in, or are."""
    parts = [name.split("/") for name in names]
    return "/".join(levels[0] for levels in takewhile(lambda levels: len(set(levels)) == 1, zip(*parts, strict=False)))


def _effort(rows: Sequence[dict[str, Any]], label: dict[str, str]) -> dict[str, dataset.Effort]:
    """Effort by deployment_id. A deployment that several runs name alike is one, its days those of all of them; where
    its place differs between them, they are several."""
    about: dict[str, set[tuple[Any, ...]]] = {}
    for row in rows:
        if row["deployment_id"] is not None:
            about.setdefault(row["deployment_id"], set()).add(_about(row))
    days: dict[str, set[Any]] = {}
    known: dict[str, Deployment] = {}
    for row in rows:
        if row["deployment_id"] is None:
            continue
        differs = len(about[row["deployment_id"]]) > 1
        name = (label.get(row["run"], "") if differs else "") + row["deployment_id"]
        fields = {n: row[n] for n in DEPLOYMENTS.names if row[n] is not None}
        known[name] = Deployment(**fields | {"deployment_id": name, "folder": ""})
        days.setdefault(name, set()).update(row["days"])
    return {name: dataset.effort(d, days[name]) for name, d in sorted(known.items())}


def _about(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in DEPLOYMENTS.names)


def _notices(
    gallery: Gallery,
    animals: dict[Key, dict[str, Any]],
    members: dict[Key, list[Instance]],
    instances: Sequence[Instance],
    crops: dict[Key, set[str]],
) -> list[str]:
    """What a reader of the exported files would otherwise not know."""
    notices = []
    for run in sorted({run for run, _ in animals}):
        lost = [key for key in animals if key[0] == run and key not in members and not crops.get(key)]
        if lost:
            notices.append(
                f"{len(lost)} encounters have no photos here, only a place and times: the run {run} is gone, and they "
                f"were enrolled before Pusa kept them. Where the run exists elsewhere, `pusa gallery enroll` it again."
            )
    if taken_out := sum(map(len, crops.values())):
        notices.append(f"{taken_out} crops that were taken out of their encounter are left out.")
    if doubles := dataset.twice(instances):
        notices.append(
            f"{named(doubles)} show one individual twice: the detector found it twice, one of two encounters has the "
            "wrong name or a crop of another animal, or two runs of one archive are enrolled."
        )
    return notices
