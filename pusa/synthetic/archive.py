"""An archive as a survey brings it home, made up from a seed: photos in folders, EXIF, deployments, and all the truth.

OUT/photos/<place>/<date>/IMG_0001.JPG   photos of one sequence a folder, with time, camera and position in EXIF
OUT/deployments.csv                      one camera a place; one of the clocks is wrong, and the table says by how much
OUT/truth/instances.json                 COCO: masks, and per animal identity, side, sequence, visible share
OUT/truth/rings/<annotation id>.png      1-bit, on the pixels of the annotation's box: white where a ring is seen
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image
from pycocotools import mask as coco_mask
from pydantic import Field, model_validator

from pusa.config import Config
from pusa.errors import UserError
from pusa.synthetic.scenes import Instance, SceneSettings, flank_yaw, make_scene, preset, shoot

MAX_ANIMALS = 8  # a sequence
MIN_PHOTOS = 3  # a sequence
SEASON = 40  # days, from 5 May: the moult, when seals lie on the shore
FIRST_COAT = 1_000_000  # coats of archives are never those that scenes.render_photo trains on
IDS_PER_PHOTO = 100  # annotation id = photo id x this + place in the photo: the same, whichever process drew it

PLACES = (  # islands in Lake Ladoga; degrees WGS84
    ("Valaam", 61.372, 30.943),
    ("Konevets", 60.862, 30.609),
    ("Mantsinsaari", 61.380, 31.610),
    ("Heinasenmaa", 61.270, 30.830),
    ("Lunkulansaari", 61.490, 31.620),
    ("Putsaari", 61.527, 30.567),
)
CAMERAS = (
    ("Canon", "Canon EOS 80D"),
    ("NIKON CORPORATION", "NIKON D500"),
    ("Panasonic", "DMC-FZ1000"),
)
SHIFTS = ("00:00:00", "+01:00:00", "00:00:00", "-00:07:30")  # what to add to a camera's clock


class SynthConfig(Config):
    """What the archive holds."""

    photos: int = Field(60, ge=1)  # at least 3 a sequence
    sequences: int = Field(10, ge=1)
    individuals: int = Field(12, ge=1)  # each comes in two sequences or more where there is room for it
    seed: int = Field(0, ge=0)  # same seed, same bytes
    preset: str = "shore"  # a name in scenes.PRESETS
    places: int = Field(4, ge=1, le=len(PLACES))
    absent: float = Field(0.15, ge=0, lt=1)  # how often an animal of the sequence is not in a photo; 0 = always there
    same_side: float = Field(0.8, ge=0, le=1)  # how often an individual shows the flank that it showed at first

    @model_validator(mode="after")
    def _possible(self) -> SynthConfig:
        if self.photos < MIN_PHOTOS * self.sequences:
            need = MIN_PHOTOS * self.sequences
            raise UserError(f"{self.sequences} sequences need at least {need} photos (3 each), not {self.photos}.")
        if self.individuals > MAX_ANIMALS * self.sequences:
            room = MAX_ANIMALS * self.sequences
            raise UserError(f"{self.sequences} sequences hold at most {room} individuals, not {self.individuals}.")
        return self


@dataclass(frozen=True)
class Sequence:
    """The plan of one sequence. individuals: numbers from 1, with the yaw (degrees) at which each lies."""

    number: int
    sequence_id: str
    deployment_id: str
    first_photo: int
    n_photos: int
    individuals: tuple[int, ...]
    yaws: tuple[float, ...]
    start: dt.datetime
    place: tuple[str, float, float]
    camera: tuple[str, str]
    clock_shift: str


@dataclass(frozen=True)
class Summary:
    """What was made."""

    photos: int
    sequences: int
    individuals: int
    instances: int
    sides: dict[str, int]


def synth(
    out: Path, config: SynthConfig, processes: int = 2, progress: Callable[[int], object] = lambda n: None
) -> Summary:
    """Writes the archive into `out`, which must be empty or new; `progress` gets the number of photos just written.

    The bytes depend on the config alone, not on `processes`. Raises UserError where `out` cannot be used.
    """
    scene = preset(config.preset)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        occupied = any(out.iterdir())
    except OSError as e:
        raise UserError(f"Cannot write into {out}: {e.strerror}. Give a folder that is new or empty.") from e
    if occupied:
        raise UserError(f"{out} is not empty. Give a new folder, or remove this one first.")
    plan = plan_sequences(config)
    (out / "truth" / "rings").mkdir(parents=True)
    _write_deployments(out / "deployments.csv", plan)
    work = partial(write_sequence, out, config, scene)
    longest_first = sorted(plan, key=lambda s: -s.n_photos * (2 + len(s.individuals)))
    done: dict[int, dict[str, Any]] = {}
    try:
        with _each(work, longest_first, processes) as results:
            for sequence, truth in results:
                done[sequence.number] = truth
                progress(sequence.n_photos)
    except OSError as e:
        raise UserError(f"Cannot write into {out}: {e.strerror}. Make room and start again in a new folder.") from e
    images = [i for _, t in sorted(done.items()) for i in t["images"]]
    annotations = [a for _, t in sorted(done.items()) for a in t["annotations"]]
    coco = {
        "info": {
            "description": "Synthetic photos of ringed seals made by `pusa synth`",
            "settings": config.model_dump(),
        },
        "licenses": [],
        "categories": [{"id": 1, "name": "seal", "supercategory": "animal"}],
        "images": images,
        "annotations": annotations,
    }
    (out / "truth" / "instances.json").write_text(json.dumps(coco))
    sides = [a["side"] for a in annotations]
    individuals = len({a["identity"] for a in annotations})
    counts = {s: sides.count(s) for s in sorted(set(sides))}
    return Summary(len(images), len(plan), individuals, len(annotations), counts)


def plan_sequences(config: SynthConfig) -> list[Sequence]:
    """Who is seen where and when, in the order of time.

    Every individual comes in two sequences or more where there is room; one in eight only in the later half of them.
    """
    rng = np.random.default_rng([config.seed, 1])
    n = config.sequences
    spare = config.photos - MIN_PHOTOS * n
    lengths = MIN_PHOTOS + rng.multinomial(spare, rng.dirichlet(np.full(n, 2.0)))
    members = _members(rng, config)
    days = rng.choice(4 * SEASON, n, replace=n > 4 * SEASON)  # four seasons; one sequence a day while there is room
    times = np.sort(86400 * days + rng.integers(7 * 3600, 18 * 3600, n))
    favourite = rng.integers(2, size=config.individuals + 1)  # the flank that an individual shows at first and most
    plan: list[Sequence] = []
    used: set[str] = set()
    seen: set[int] = set()
    for k in range(n):
        where = int(rng.integers(config.places))
        season, seconds = divmod(int(times[k]), 86400 * SEASON)
        start = dt.datetime(2019 + season, 5, 5) + dt.timedelta(seconds=seconds)
        place = PLACES[where]
        sequence_id = f"{place[0]}/{start:%Y-%m-%d}"
        if sequence_id in used:
            sequence_id += f"-{k + 1}"
        used.add(sequence_id)
        yaws = []
        for who in members[k]:
            side = ("left", "right")[favourite[who]]
            if who in seen and rng.random() > config.same_side:
                others = [s for s in ("left", "right", "front", "back") if s != side]
                side = others[rng.integers(len(others))]
            seen.add(who)
            yaws.append(flank_yaw(rng, side))
        plan.append(
            Sequence(
                number=k,
                sequence_id=sequence_id,
                deployment_id=f"D{where + 1:02d}",
                first_photo=1 + int(lengths[:k].sum()),
                n_photos=int(lengths[k]),
                individuals=tuple(members[k]),
                yaws=tuple(yaws),
                start=start,
                place=place,
                camera=CAMERAS[where % len(CAMERAS)],
                clock_shift=SHIFTS[where % len(SHIFTS)],
            )
        )
    return plan


def _members(rng: np.random.Generator, config: SynthConfig) -> list[list[int]]:
    """Individuals (numbers from 1) of each sequence: always those seen least so far, ties at random."""
    n, total = config.sequences, config.individuals
    most = min(MAX_ANIMALS, total)
    sizes = rng.integers(min(2, most), min(5, most) + 1, n)
    while sizes.sum() < min(2 * total + n, most * n):  # room for two sightings of each, and some more
        sizes[rng.choice(np.flatnonzero(sizes < most))] += 1
    newcomers = max(1, total // 8) if n >= 4 and total >= 4 else 0
    seen = np.zeros(total)
    members = []
    for k in range(n):
        known = total if k >= (n + 1) // 2 else total - newcomers
        order = np.argsort(seen[:known] + 0.5 * rng.random(known))
        chosen = order[: sizes[k]]
        seen[chosen] += 1
        members.append([int(i) + 1 for i in chosen])
    return members


@contextmanager
def _each(work: Callable, items: list, processes: int) -> Iterator[Iterator]:
    """Results of `work` on each item, in any order, by so many processes (spawned, as Windows and macOS do it)."""
    if processes <= 1 or len(items) == 1:
        yield map(work, items)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(items)), context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            yield (f.result() for f in as_completed(futures))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def write_sequence(
    out: Path, config: SynthConfig, settings: SceneSettings, sequence: Sequence
) -> tuple[Sequence, dict[str, Any]]:
    """Draws and writes the photos and ring masks of one sequence; returns it with its COCO images and annotations."""
    rng = np.random.default_rng([config.seed, 2, sequence.number])
    coats = [FIRST_COAT + 10_000 * config.seed + i for i in sequence.individuals]
    scene = make_scene(rng, settings, coats, list(sequence.yaws))
    folder = out / "photos" / sequence.sequence_id
    folder.mkdir(parents=True)
    present = rng.random((sequence.n_photos, len(coats))) >= config.absent
    present[rng.integers(sequence.n_photos, size=len(coats)), np.arange(len(coats))] = True  # at least once
    names = {c: f"S{i:03d}" for c, i in zip(coats, sequence.individuals, strict=True)}
    taken = sequence.start
    truth: dict[str, Any] = {"images": [], "annotations": []}
    for k in range(sequence.n_photos):
        photo = shoot(scene, rng, list(present[k]))
        photo_id = sequence.first_photo + k
        name = f"{sequence.sequence_id}/IMG_{k + 1:04d}.JPG"
        quality = int(rng.integers(settings.quality[0], settings.quality[1] + 1))
        exif = _exif(sequence, taken)
        Image.fromarray(photo.image).save(out / "photos" / name, quality=quality, exif=exif)
        truth["images"].append(
            {
                "id": photo_id,
                "file_name": name,
                "width": settings.width,
                "height": settings.height,
                "date_captured": f"{taken:%Y-%m-%d %H:%M:%S}",
                "sequence_id": sequence.sequence_id,
                "deployment_id": sequence.deployment_id,
            }
        )
        for j, instance in enumerate(photo.instances):
            annotation_id = photo_id * IDS_PER_PHOTO + j + 1
            annotation = _annotation(instance, annotation_id, photo_id)
            annotation |= {"identity": names[instance.identity], "sequence_id": sequence.sequence_id}
            truth["annotations"].append(annotation)
            x0, y0, x1, y1 = instance.box
            Image.fromarray(instance.rings[y0:y1, x0:x1]).save(out / "truth" / "rings" / f"{annotation_id}.png")
        taken += dt.timedelta(seconds=int(rng.integers(4, 75)))
    return sequence, truth


def _annotation(instance: Instance, annotation_id: int, photo_id: int) -> dict[str, Any]:
    """A COCO annotation. visibility: share of the animal's pixels that are seen; contrast: of rings; yaw: degrees."""
    rle = coco_mask.encode(np.asfortranarray(instance.mask.view(np.uint8)))
    x0, y0, x1, y1 = instance.box
    return {
        "id": annotation_id,
        "image_id": photo_id,
        "category_id": 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(instance.mask.sum()),
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
        "iscrowd": 0,
        "side": instance.side,
        "visibility": round(instance.visible, 3),
        "contrast": round(instance.contrast, 3),
        "yaw": round(instance.yaw, 1),
    }


def _exif(sequence: Sequence, taken: dt.datetime) -> bytes:
    """EXIF with the time on the camera's own clock, make, model and position."""
    sign = -1 if sequence.clock_shift.startswith("-") else 1
    h, m, s = (int(part) for part in sequence.clock_shift.lstrip("+-").split(":"))
    clock = f"{taken - sign * dt.timedelta(hours=h, minutes=m, seconds=s):%Y:%m:%d %H:%M:%S}"
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = sequence.camera
    exif[ExifTags.Base.DateTime] = clock
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = clock
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    _, latitude, longitude = sequence.place
    gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLatitude] = "N", _degrees(latitude)
    gps[ExifTags.GPS.GPSLongitudeRef], gps[ExifTags.GPS.GPSLongitude] = "E", _degrees(longitude)
    return exif.tobytes()


def _degrees(value: float) -> tuple[float, float, float]:
    """Positive degrees as degrees, minutes, seconds."""
    minutes = value % 1 * 60
    return float(int(value)), float(int(minutes)), round(minutes % 1 * 60, 2)


def _write_deployments(path: Path, plan: list[Sequence]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["deployment_id", "folder", "place", "latitude", "longitude", "time_zone", "clock_shift", "start", "end"]
    )
    for deployment_id in sorted({s.deployment_id for s in plan}):
        mine = [s for s in plan if s.deployment_id == deployment_id]
        place, latitude, longitude = mine[0].place
        start, end = min(s.start for s in mine).date(), max(s.start for s in mine).date()
        table.writerow(
            [deployment_id, place, place, latitude, longitude, "Europe/Moscow", mine[0].clock_shift, start, end]
        )
    path.write_text(text.getvalue())
