"""An archive as a survey brings it home, made up from a seed: photos in folders, EXIF, deployments, and all the truth.

OUT/photos/<place>/<date>/IMG_0001.JPG   photos of one sequence a folder, with time, camera and position in EXIF
OUT/deployments.csv                      one camera a place; one of the clocks is wrong, and the table says by how much
OUT/settings.yaml                        all settings; the same ones resume a rendering that was interrupted
OUT/truth/instances.json                 COCO: masks, and per animal identity, side, sequence, visible share
OUT/truth/rings/<annotation id>.png      1-bit, on the pixels of the annotation's box: white where a ring is seen
OUT/truth/surface/<annotation id>.png    RGB = s, theta, facing on the same pixels, halved: where on the body (photo.py)
OUT/truth/coats/<identity>.png           1-bit, the rings of the whole animal: rows = theta, columns = s
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import multiprocessing
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from PIL import ExifTags, Image
from pycocotools import mask as coco_mask

from pusa.config import Config, load_config
from pusa.errors import UserError
from pusa.synthetic.photo import Instance
from pusa.synthetic.planning import Sequence, plan_sequences
from pusa.synthetic.settings import SynthConfig, renderer

IDS_PER_PHOTO = 100  # annotation id = photo id x this + place in the photo: the same, whichever process drew it
BYTES_PER_PIXEL = 0.4  # of a photo with its truth, roughly: what a disk must have room for

Work = Callable[[Sequence], "Sequence"]
Each = Callable[[Work, list[Sequence]], Iterable[Sequence]]  # runs the work on each, in any order, anywhere


@dataclass
class Summary:
    """What was made; kept in truth/summary.json, since the COCO file of a large archive does not fit into memory."""

    photos: int = 0
    sequences: int = 0
    individuals: int = 0
    instances: int = 0
    sides: dict[str, int] = field(default_factory=dict)


def synth(out: Path, config: SynthConfig, each: Each, progress: Callable[[int], object] = lambda n: None) -> Summary:
    """Writes the archive into `out`: new, empty, or begun with the same settings; what is there already is kept.

    `each` runs the drawing of the sequences: `processes(n)`, or Ray. `progress` gets the number of photos that came.
    The bytes depend on the config alone. Raises UserError, before a photo is written, where settings are impossible
    or `out` cannot be used.
    """
    out = Path(out)
    look = load_config(renderer(config.renderer).Look, overrides=dict(config.look))
    plan = plan_sequences(config)
    begin(out, config, sum(s.n_photos for s in plan) * look.width * look.height)
    coco, parts = out / "truth" / "instances.json", out / "truth" / "parts"
    try:
        if not coco.is_file():
            for folder in (parts, out / "truth" / "rings", out / "truth" / "surface", out / "truth" / "coats"):
                folder.mkdir(parents=True, exist_ok=True)
            _write_deployments(out / "deployments.csv", plan)
            todo = [s for s in plan if not _part(parts, s).is_file()]
            progress(sum(s.n_photos for s in plan) - sum(s.n_photos for s in todo))
            longest_first = sorted(todo, key=lambda s: -s.n_photos * (2 + len(s.individuals)))
            for sequence in each(partial(write_sequence, out, config, look), longest_first):
                progress(sequence.n_photos)
            _assemble(coco, parts, plan, config)
        return Summary(**json.loads((out / "truth" / "summary.json").read_text()))
    except OSError as e:
        raise UserError(
            f"Cannot write into {out}: {e.strerror}. Make room and give the same command again: it goes on from there."
        ) from e


def begin(out: Path, config: SynthConfig, pixels: int) -> None:
    """Prepares the folder `out` for so many pixels of photos. Raises UserError where it cannot be used."""
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if (out / "settings.yaml").is_file():
            if (out / "settings.yaml").read_text() != settings:
                raise UserError(f"{out} was begun with other settings (settings.yaml). Give another folder.")
            return
        if any(out.iterdir()):
            raise UserError(f"{out} is not empty. Give a new folder, or remove this one first.")
        need, free = int(BYTES_PER_PIXEL * pixels), shutil.disk_usage(out).free
        if need > free:
            raise UserError(f"{out} has {free / 1e9:.1f} GB free; these photos need about {need / 1e9:.1f} GB.")
        (out / "settings.yaml").write_text(settings)
    except OSError as e:
        raise UserError(f"Cannot write into {out}: {e.strerror}. Give a folder that is new or empty.") from e


def processes(n: int) -> Each:
    """Runs the work in `n` processes of this machine (spawned, as Windows and macOS do it)."""

    def each(work: Work, items: list[Sequence]) -> Iterator[Sequence]:
        if n <= 1 or len(items) <= 1:
            yield from map(work, items)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(n, len(items)), context, initializer=_start) as pool:
            futures = [pool.submit(work, item) for item in items]
            try:
                yield from (f.result() for f in as_completed(futures))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    return each


def _start() -> None:
    """In each process: one thread, and an end with its parent, however that ends. Left to itself it would draw on, into
    a folder that may be another archive's by then."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def write_sequence(out: Path, config: SynthConfig, look: Config, sequence: Sequence) -> Sequence:
    """Draws and writes the photos of one sequence and their truth; its part of the COCO file comes last and whole."""
    render = renderer(config.renderer)
    rng = np.random.default_rng([config.seed, 2, sequence.number])
    scene = render.make_scene(rng, look, sequence.animals, sequence.fixed)
    (out / "photos" / sequence.sequence_id).mkdir(parents=True, exist_ok=True)
    present = rng.random((sequence.n_photos, len(sequence.animals))) >= config.absent
    present[rng.integers(sequence.n_photos, size=len(present.T)), np.arange(len(present.T))] = True  # at least once
    names = {a.identity: f"S{i:03d}" for a, i in zip(sequence.animals, sequence.individuals, strict=True)}
    pups = {a.identity for a in sequence.animals if a.pup}
    taken, pause = sequence.start, int(rng.integers(30, 300))
    truth: dict[str, Any] = {"images": [], "annotations": []}
    for k in range(sequence.n_photos):
        photo = render.shoot(scene, rng, list(present[k]))
        photo_id = sequence.first_photo + k
        name = f"{sequence.sequence_id}/IMG_{k + 1:04d}.JPG"
        Image.fromarray(photo.image).save(out / "photos" / name, quality=photo.quality, exif=_exif(sequence, taken))
        height, width = photo.image.shape[:2]
        truth["images"].append(
            {
                "id": photo_id,
                "file_name": name,
                "width": width,
                "height": height,
                "date_captured": f"{taken:%Y-%m-%d %H:%M:%S}",
                "sequence_id": sequence.sequence_id,
                "deployment_id": sequence.deployment_id,
                "split": "database" if sequence.database else "query",
                "settings": photo.settings,
            }
        )
        for j, instance in enumerate(photo.instances):
            annotation_id = photo_id * IDS_PER_PHOTO + j + 1
            annotation = _annotation(instance, photo.image, annotation_id, photo_id)
            annotation |= {
                "identity": names[instance.identity],
                "sequence_id": sequence.sequence_id,
                "deployment_id": sequence.deployment_id,
                "pup": instance.identity in pups,
            }
            truth["annotations"].append(annotation)
            x0, y0, x1, y1 = instance.box
            Image.fromarray(instance.rings[y0:y1, x0:x1]).save(out / "truth" / "rings" / f"{annotation_id}.png")
            Image.fromarray(instance.surface[::2, ::2]).save(out / "truth" / "surface" / f"{annotation_id}.png")
        taken += dt.timedelta(seconds=pause if sequence.fixed else int(rng.integers(4, 75)))
    for animal in sequence.animals:
        coat = out / "truth" / "coats" / f"{names[animal.identity]}.png"
        if not coat.is_file():
            Image.fromarray(render.coat_map(animal.identity, look)).save(coat)
    part = _part(out / "truth" / "parts", sequence)
    part.with_suffix(".tmp").write_text(json.dumps(truth))
    part.with_suffix(".tmp").replace(part)
    return sequence


def _part(parts: Path, sequence: Sequence) -> Path:
    """The file whose presence says that a sequence is whole."""
    return parts / f"{sequence.number:06d}.json"


def _assemble(coco: Path, parts: Path, plan: list[Sequence], config: SynthConfig) -> None:
    """Joins the parts into the COCO file, one in memory at a time, and removes them."""
    head = {
        "info": {
            "description": "Synthetic photos of ringed seals made by `pusa synth`",
            "settings": config.model_dump(mode="json"),
        },
        "licenses": [],
        "categories": [{"id": 1, "name": "seal", "supercategory": "animal"}],
    }
    made, sides = Summary(sequences=len(plan)), Counter[str]()
    identities: set[str] = set()
    with coco.with_suffix(".tmp").open("w") as file:
        file.write(json.dumps(head)[:-1])
        for key in ("images", "annotations"):
            file.write(f', "{key}": [')
            separator = ""
            for sequence in plan:
                part = json.loads(_part(parts, sequence).read_text())[key]
                for entry in part:
                    file.write(separator + json.dumps(entry))
                    separator = ", "
                if key == "images":
                    made.photos += len(part)
                else:
                    made.instances += len(part)
                    identities.update(a["identity"] for a in part)
                    sides.update(a["side"] for a in part)
            file.write("]")
        file.write("}")
    made.individuals, made.sides = len(identities), dict(sorted(sides.items()))
    (coco.parent / "summary.json").write_text(json.dumps(asdict(made)))
    coco.with_suffix(".tmp").replace(coco)
    shutil.rmtree(parts)


def _annotation(instance: Instance, image: np.ndarray, annotation_id: int, photo_id: int) -> dict[str, Any]:
    """A COCO annotation. visibility, occluded: shares of the animal's pixels; contrast: of rings as they were drawn,
    0..1; ring_contrast, ring_clarity: as they came out, see `_clarity`; yaw: degrees.
    """
    rle = coco_mask.encode(np.asfortranarray(instance.mask.view(np.uint8)))
    x0, y0, x1, y1 = instance.box
    ring_contrast, ring_clarity = _clarity(instance, image)
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
        "occluded": round(1 - instance.visible, 3),
        "contrast": round(instance.contrast, 3),
        "ring_contrast": round(ring_contrast, 2),
        "ring_clarity": round(ring_clarity, 3),
        "yaw": round(instance.yaw, 1),
    }


def _clarity(instance: Instance, image: np.ndarray) -> tuple[float, float]:
    """How well the rings can be seen in the photo: (mean grey level of rings above the fur beside them, that divided by
    the standard deviation of both about their means); 0 where there is no ring.

    Measured on the photo minus its local mean, so that light and shade across the animal do not count.
    """
    x0, y0, x1, y1 = instance.box
    grey = cv2.cvtColor(image[y0:y1, x0:x1], cv2.COLOR_RGB2GRAY).astype(np.float32)
    mask = instance.mask[y0:y1, x0:x1].astype(np.float32)
    ring = instance.rings[y0:y1, x0:x1]
    reach = 2 * max(round(0.02 * max(grey.shape)), 2) + 1
    beside = cv2.dilate(ring.view(np.uint8), np.ones((reach, reach), np.uint8)).astype(bool) & (mask > 0) & ~ring
    if ring.sum() < 20 or beside.sum() < 20:
        return 0.0, 0.0
    wide = (4 * reach + 1, 4 * reach + 1)
    level = cv2.blur(grey * mask, wide) / np.maximum(cv2.blur(mask, wide), 1e-3)
    light, dark = (grey - level)[ring], (grey - level)[beside]
    difference = float(light.mean() - dark.mean())
    return difference, difference / float(np.sqrt((light.var() + dark.var()) / 2) + 1e-6)


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
