"""RUN/report.html: what a run found, for the person who took the photos. Opens offline; nothing is loaded, no script runs.

Memory is bounded: one pass over the photos reads no picture; then each page reads only the files that hold its instances.
An archive of many encounters becomes report.html, report-2.html, and so on.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs as pafs

from pusa import records, storage
from pusa.photos import decode_jpeg, decode_mask_png
from pusa.records import Run
from pusa.report import pictures
from pusa.segmentation.masks import crop_mask

ENCOUNTERS = 40  # a page; fewer where they have many pictures
PICTURES = 240  # a page holds about 15 KB of each
PICTURE_SIZE = (400, 200)  # px, limits of width and height
CANDIDATE_SIZE = (150, 110)  # px
LISTED = 500  # rows of a list of photos; the rest is counted
MOST_ANIMALS = 10  # photos with so many or more are one bar

Thumbnail = Callable[[str], bytes | None]  # a JPEG of an individual, None where there is none
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,  # names of files and individuals are not ours
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass
class Overview:
    """What one pass over the photos tells: counts, the photos that need a look, and in which file an instance is."""

    photos: int = 0
    instances: int = 0
    usable: int = 0
    empty: int = 0  # photos that were read and have no animal
    errors: list[tuple[str, str]] = field(default_factory=list)  # path, reason
    copies: list[tuple[str, str]] = field(default_factory=list)  # path, path of the photo it is a copy of
    sequences: Counter[str] = field(default_factory=Counter)  # photos of each
    animals: Counter[int] = field(default_factory=Counter)  # photos by their number of animals
    reasons: Counter[str] = field(default_factory=Counter)  # why a pattern is not usable
    file_of: dict[str, str] = field(default_factory=dict)  # instance_id -> file of the table `photos`

    @property
    def error_reasons(self) -> list[tuple[str, int]]:
        return Counter(reason for _, reason in self.errors).most_common()


@dataclass(frozen=True)
class Picture:
    """One instance as the page shows it. `crop` and `pattern` are data URIs, `outline` the `d` of an SVG path."""

    name: str
    path: str
    photo_id: str
    taken_at: dt.datetime | None
    deployment_id: str | None
    side: str
    patches: int
    reason: str | None  # why its pattern is not usable; None where it is
    size: tuple[int, int]  # width, height, px
    crop: str
    outline: str
    pattern: str | None


def write_report(run: Run, thumbnail: Thumbnail = lambda individual: None, gallery: str | None = None) -> list[str]:
    """Writes the report of a finished run and returns its pages, the first first.

    `thumbnail` gives the picture of an individual, a JPEG. `gallery` is the name of the gallery that the candidates come
    from, for the reader. Pages of an older report are replaced. Raises UserError where the run did not finish.
    """
    manifest = run.finished_manifest()
    overview = survey(run)
    encounters = _sorted(run.read("encounters", ["encounter_id", "sequence_id", "instance_ids", "n_patches"]))
    candidates = run.read("candidates")
    places = {d["deployment_id"]: d["place"] or d["deployment_id"] for d in run.read("deployments").to_pylist()}
    face = lru_cache(maxsize=1024)(lambda individual: _face(thumbnail(individual)))
    cuts = cut(pc.list_value_length(encounters["instance_ids"]).to_pylist())
    names = [page_name(number) for number in range(1, len(cuts) + 1)]
    about = _about(run, manifest, gallery) | {
        "overview": overview,
        "encounters": len(encounters),
        "with_pattern": pc.sum(pc.greater(encounters["n_patches"], 0)).as_py() or 0,
        "with_candidates": pc.count_distinct(candidates["encounter_id"]).as_py(),
        "calibrated": candidates["probability"].null_count < len(candidates),
        "pages": names,
        "listed": LISTED,
    }
    template = _TEMPLATES.get_template("page.html")
    for number, (start, stop) in enumerate(cuts, 1):
        part = encounters.slice(start, stop - start)
        cards = _cards(run, part, candidates, overview.file_of, places, face)
        html = template.render(about, number=number, cards=cards, first=start + 1, bars=_bars)
        storage.write_bytes(run.fs, run.file(names[number - 1]), html.encode())
    _remove_others(run, names)
    return [run.file(name) for name in names]


def page_name(number: int) -> str:
    return "report.html" if number == 1 else f"report-{number}.html"


def survey(run: Run) -> Overview:
    """One pass over the photos, without their pictures."""
    overview = Overview()
    copies: list[tuple[str, str]] = []
    nested = [f"instances.list.element.{name}" for name in ("instance_id", "usable", "unusable_reason")]
    columns = ["path", "duplicate_of", "sequence_id", "status", "error", *nested]
    for file in run.files("photos"):
        photos = run.read_file("photos", file, columns)
        for row, found in zip(photos.drop_columns(["instances"]).to_pylist(), records.instances(photos), strict=True):
            overview.photos += 1
            overview.sequences[row["sequence_id"]] += 1
            if row["status"] == "error":
                overview.errors.append((row["path"], row["error"] or "no reason given"))
                continue
            overview.instances += len(found)
            overview.usable += sum(bool(i["usable"]) for i in found)
            overview.empty += not found
            overview.animals[min(len(found), MOST_ANIMALS)] += 1
            overview.reasons.update(_reason(i) for i in found if not i["usable"])
            overview.file_of.update((i["instance_id"], file) for i in found)
            if row["duplicate_of"]:
                copies.append((row["path"], row["duplicate_of"]))
    overview.errors.sort()
    if copies:
        every = run.read("photos", ["photo_id", "path"])
        originals = every.filter(pc.is_in(every["photo_id"], value_set=pa.array([i for _, i in copies])))
        path_of = dict(zip(*(originals[c].to_pylist() for c in ("photo_id", "path")), strict=True))
        overview.copies = sorted((path, path_of[original]) for path, original in copies)
    return overview


def cut(sizes: Sequence[int], encounters: int = ENCOUNTERS, images: int = PICTURES) -> list[tuple[int, int]]:
    """Cuts encounters with `sizes` pictures each into pages, as (start, stop): at most `encounters` of them and `images`
    pictures, except where one encounter alone has more. There is always a first page."""
    pages, start, filled = [], 0, 0
    for i, size in enumerate(sizes):
        if i > start and (i - start == encounters or filled + size > images):
            pages.append((start, i))
            start, filled = i, 0
        filled += size
    return [*pages, (start, len(sizes))]


def span(times: Iterable[dt.datetime | None]) -> str | None:
    """From the first to the last time, to the minute; None where no time is known."""
    known = sorted(t for t in times if t is not None)
    if not known:
        return None
    first, last = known[0], known[-1]
    if f"{first:%F %H:%M}" == f"{last:%F %H:%M}":
        return f"{first:%F, %H:%M}"
    return f"{first:%F, %H:%M} to {last:%H:%M}" if first.date() == last.date() else f"{first:%F, %H:%M} to {last:%F, %H:%M}"


def by_size(sizes: Iterable[int]) -> dict[str, int]:
    """How many of `sizes` (each at least 1) are 1, 2, 3 to 4, 5 to 8, 9 to 16, and so on."""
    bins = Counter((size - 1).bit_length() for size in sizes)
    return {str(2**b) if b < 2 else f"{2 ** (b - 1) + 1} to {2**b}": bins[b] for b in range(max(bins, default=-1) + 1)}


def _bars(overview: Overview) -> list[tuple[str, dict[str, int]]]:
    """The charts: a title, and counts by name."""
    names = [str(n) if n < MOST_ANIMALS else f"{n} or more" for n in range(max(overview.animals, default=-1) + 1)]
    return [
        ("Photos by number of seals in them", {name: overview.animals[n] for n, name in enumerate(names)}),
        ("Sequences by number of photos", by_size(overview.sequences.values())),
        ("Seals by what came of their pattern", {"usable": overview.usable, **dict(overview.reasons.most_common())}),
    ]


def _about(run: Run, manifest: dict[str, Any], gallery: str | None) -> dict[str, Any]:
    """What the run is: its archive, time, version, weights (kind, name, digest) and settings."""
    config = manifest.get("config", {})
    named = {"codebook": config.get("encounters", {}).get("codebook")}
    weights = [
        (kind, named.get(kind) or config.get(kind, {}).get("weights", ""), digest)
        for kind, digest in sorted(manifest.get("weights", {}).items())
    ]
    return {
        "run": run.uri,
        "quoted_run": shlex.quote(run.uri),
        "manifest": manifest,
        "weights": weights,
        "settings": json.dumps(config, indent=2, sort_keys=True),
        "gallery": gallery,
    }


def _sorted(encounters: pa.Table) -> pa.Table:
    """Encounters by sequence, then by number: #10 comes after #2."""
    ids = encounters["encounter_id"].to_pylist()
    sequences = encounters["sequence_id"].to_pylist()
    order = sorted(range(len(ids)), key=lambda i: (sequences[i], int(ids[i].rpartition("#")[2])))
    return encounters.take(order)


def _cards(
    run: Run,
    encounters: pa.Table,
    candidates: pa.Table,
    file_of: dict[str, str],
    places: dict[str, str],
    face: Callable[[str], str | None],
) -> list[dict[str, Any]]:
    """What the template shows of each encounter of a page."""
    rows = encounters.to_pylist()
    shown = _pictures(run, [i for row in rows for i in row["instance_ids"]], file_of)
    ranked: dict[str, list[dict[str, Any]]] = {row["encounter_id"]: [] for row in rows}
    of_page = candidates.filter(pc.is_in(candidates["encounter_id"], value_set=encounters["encounter_id"].combine_chunks()))
    for candidate in of_page.sort_by("rank").to_pylist():
        picture = face(candidate["individual"])
        ranked[candidate["encounter_id"]].append(candidate | {"picture": picture})
    cards = []
    for row in rows:
        members = [shown[i] for i in row["instance_ids"]]
        deployments = dict.fromkeys(p.deployment_id for p in members if p.deployment_id)
        cards.append(
            {
                "id": row["encounter_id"],
                "sequence": row["sequence_id"],
                "when": span(p.taken_at for p in members),
                "place": ", ".join(places.get(d, d) for d in deployments),
                "photos": len({p.photo_id for p in members}),
                "patches": row["n_patches"],
                "reasons": Counter(p.reason for p in members if p.reason).most_common(),
                "pictures": members,
                "candidates": ranked[row["encounter_id"]],
            }
        )
    return cards


def _pictures(run: Run, ids: Sequence[str], file_of: dict[str, str]) -> dict[str, Picture]:
    """The pictures of the instances `ids`, made small as they are read, a file at a time."""
    nested = ("instance_id", "side", "mask", "crop_box", "crop", "pattern", "usable", "unusable_reason", "patch_boxes")
    columns = ["photo_id", "path", "sequence_id", "taken_at", "deployment_id", *(f"instances.list.element.{n}" for n in nested)]
    wanted, shown = set(ids), {}
    for file in sorted({file_of[i] for i in ids}):
        photos = run.read_file("photos", file, columns)
        for row, found in zip(photos.drop_columns(["instances"]).to_pylist(), records.instances(photos), strict=True):
            shown |= {i["instance_id"]: _picture(row, i) for i in found if i["instance_id"] in wanted}
    return shown


def _picture(photo: dict[str, Any], instance: dict[str, Any]) -> Picture:
    crop = pictures.thumbnail(decode_jpeg(instance["crop"]), PICTURE_SIZE)
    size = (crop.shape[1], crop.shape[0])
    mask = crop_mask(instance["mask"], instance["crop_box"], size)
    pattern = None
    if instance["pattern"] is not None:
        panel = pictures.pattern_panel(decode_mask_png(instance["pattern"]), mask)
        pattern = pictures.data_uri(panel, "png")
    return Picture(
        name=photo["path"].removeprefix(f"{photo['sequence_id']}/"),
        path=photo["path"],
        photo_id=photo["photo_id"],
        taken_at=photo["taken_at"],
        deployment_id=photo["deployment_id"],
        side=instance["side"],
        patches=len(instance["patch_boxes"] or ()),
        reason=None if instance["usable"] else _reason(instance),
        size=size,
        crop=pictures.data_uri(crop, "jpeg"),
        outline=pictures.svg_path(pictures.outline(mask)),
        pattern=pattern,
    )


def _reason(instance: dict[str, Any]) -> str:
    return instance["unusable_reason"] or "no reason given"


def _face(jpeg: bytes | None) -> str | None:
    """A candidate's picture, small, as a data URI."""
    return jpeg and pictures.data_uri(pictures.thumbnail(decode_jpeg(jpeg), CANDIDATE_SIZE), "jpeg")


def _remove_others(run: Run, names: Sequence[str]) -> None:
    """Removes pages that an earlier, longer report left behind."""
    for info in run.fs.get_file_info(pafs.FileSelector(run.path)):
        if re.fullmatch(r"report-\d+\.html", info.base_name) and info.base_name not in names:
            run.fs.delete_file(info.path)
