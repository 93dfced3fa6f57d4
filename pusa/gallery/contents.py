"""The contents of a gallery as a dataset to be exported or reported on: who was where and when, by what is decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from pusa.deployments import Deployment, deployment_of
from pusa.exchange import dataset
from pusa.exchange.dataset import Dataset, Encounter, Instance, Photo
from pusa.exchange.tables import named
from pusa.gallery import sources
from pusa.gallery.journal import Decision, Key
from pusa.gallery.store import Gallery
from pusa.records import DEPLOYMENTS

ENCOUNTER = ["run", "encounter_id", "sequence_id", "place", "taken_from", "taken_to", "side"]


def contents(gallery: Gallery, deployments: Sequence[Deployment] = (), masks: bool = True) -> Dataset:
    """All encounters of a gallery less those that show no animal, and their instances less crops that were taken out.

    `deployments` take the place of those that the runs were made with; photos are in the one whose folder they lie in.
    Ids and paths of a gallery of several runs begin with what tells the runs and archives apart.
    """
    rows = gallery.encounters.search().select(ENCOUNTER).to_arrow().to_pylist()
    decisions = gallery.decisions()
    found = gallery.catalogue()
    makers = _makers(decisions, {*found.undone, *found.void})
    animals = {(r["run"], r["encounter_id"]): r for r in rows
               if found.verdicts.get((r["run"], r["encounter_id"])) != "not_animal"}  # fmt: skip
    kept = sources.read(gallery, animals, masks)
    label = _prefixes({run for run, _ in animals}, ":")
    archives = dict(zip(*kept["runs"].select(["run", "archive"]).to_pydict().values(), strict=True))
    below = _prefixes(set(archives.values()), "/")
    worked = kept["effort"].to_pylist()
    effort = _effort(worked, label)
    members: dict[Key, list[Instance]] = {}
    photos: dict[tuple[str, str], Photo] = {}
    by_folder = {d.folder: d for d in deployments if d.folder is not None}
    for row in kept["instances"].to_pylist():
        key = row["run"], row["encounter_id"]
        if key not in animals or row["instance_id"] in found.crops.get(key, ()):
            continue
        name = row["run"], row["photo_id"]
        if name not in photos:
            mine = deployment_of(row["path"], by_folder)
            where = mine.deployment_id if mine else None
            if not deployments and row["deployment_id"] is not None:
                where = _deployment_id(row["run"], row["deployment_id"], label, effort)
            photos[name] = Photo(
                photo_id=label[row["run"]] + row["photo_id"],
                path=below.get(archives.get(row["run"], ""), "") + row["path"],
                width=row["width"],
                height=row["height"],
                sequence_id=label[row["run"]] + row["sequence_id"],
                taken_at=row["taken_at"],
                deployment_id=where,
                camera=row["camera"],
            )
        members.setdefault(key, []).append(
            Instance(
                instance_id=label[row["run"]] + row["instance_id"],
                photo=photos[name],
                encounter_id=label[row["run"]] + row["encounter_id"],
                box=tuple(row["box"]),
                individual=found.names.get(key),
                side=row["side"],
                score=row["score"],
                mask=row.get("mask"),
            )
        )
    if deployments:
        effort = _given_effort(deployments, photos.values())
    encounters = [
        _encounter(row, members.get(key, []), found.names.get(key), makers.get(key), label[key[0]], effort)
        for key, row in animals.items()
    ]
    instances = sorted((i for mine in members.values() for i in mine), key=lambda i: (i.photo.path, i.instance_id))
    root = _common(set(archives.values()))
    notices = _notices(gallery, animals, members, instances, found.crops)
    homeless = frozenset(day for row in worked if row["deployment_id"] is None for day in row["days"])
    return Dataset(instances, sorted(encounters, key=lambda e: e.encounter_id), effort, homeless, root, notices)


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
    return Encounter(
        encounter_id=label + row["encounter_id"],
        sequence_id=label + (row["sequence_id"] or row["encounter_id"]),
        sides=frozenset(sides),
        individual=name,
        taken_from=row["taken_from"],
        taken_to=row["taken_to"],
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


def _deployment_id(run: str, name: str, label: dict[str, str], effort: dict[str, dataset.Effort]) -> str:
    return name if name in effort else label[run] + name


def _given_effort(deployments: Sequence[Deployment], photos: Any) -> dict[str, dataset.Effort]:
    days: dict[str, set[Any]] = {}
    for photo in photos:
        if photo.deployment_id and photo.taken_at:
            days.setdefault(photo.deployment_id, set()).add(photo.taken_at.date())
    return {d.deployment_id: dataset.effort(d, days.get(d.deployment_id, ())) for d in deployments}


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
