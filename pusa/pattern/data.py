"""Crops with true ring masks to learn from, and the ways in which training changes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pusa import photos as photo_files
from pusa.errors import PhotoError, UserError
from pusa.pattern import extract
from pusa.pattern.extract import PatternConfig
from pusa.segmentation import masks


@dataclass(frozen=True)
class Example:
    """A crop at the network's scale: layers (h, w, 3) uint8 = grey, mask of the seal, mask of the rings (0 or 255).

    side: longer side of the crop in the photo, px. about: what the truth says of the animal (a COCO annotation).
    """

    layers: np.ndarray
    side: int
    about: dict[str, Any]

    @property
    def grey(self) -> np.ndarray:
        return self.layers[..., 0]

    @property
    def mask(self) -> np.ndarray:
        return self.layers[..., 1] >= 128

    @property
    def rings(self) -> np.ndarray:
        return self.layers[..., 2] >= 128

    def network_input(self, config: PatternConfig) -> np.ndarray:
        """(h, w) uint8, tone-mapped and black outside the mask."""
        return extract.network_input(self.grey, self.mask, config)


def read(folder: Path, input_size: int, blank: float, limit: int, seed: int) -> list[Example]:
    """Crops of a synthetic archive, or of the user's own folder: at most `limit`, evenly spread.

    An archive (photos/, truth/) also gives a share `blank` of grounds in a seal's outline without rings. An own folder
    holds crops/NAME.jpg (or .png), rings/NAME.png of the same size (white where a ring is), and optionally
    masks/NAME.png (white where the animal is; else all of the crop). Raises UserError where files are missing or do
    not fit.
    """
    folder = Path(folder)
    if (folder / "crops").is_dir():
        return read_folder(folder, input_size, limit)
    return read_archive(folder, input_size, blank, limit, seed)


def read_folder(folder: Path, input_size: int, limit: int) -> list[Example]:
    """Crops of a user's own folder: see `read`."""
    crops = sorted(path for path in (folder / "crops").iterdir() if not path.name.startswith("."))
    if not crops:
        raise UserError(f"{folder}/crops is empty: expected pictures of animals, and their rings in {folder}/rings.")
    examples = []
    for crop in [crops[i * len(crops) // min(limit, len(crops))] for i in range(min(limit, len(crops)))]:
        grey = cv2.cvtColor(_read(crop), cv2.COLOR_RGB2GRAY)
        rings = _read(folder / "rings" / f"{crop.stem}.png")[..., 0] >= 128
        outline = folder / "masks" / f"{crop.stem}.png"
        mask = _read(outline)[..., 0] >= 128 if outline.is_file() else np.ones(grey.shape, bool)
        for name, layer in (("rings", rings), ("masks", mask)):
            if layer.shape != grey.shape:
                raise UserError(
                    f"{crop.name} has {grey.shape[1]} x {grey.shape[0]} pixels, its picture in {name}/ has "
                    f"{layer.shape[1]} x {layer.shape[0]}. They must be the same."
                )
        if not mask.any():
            raise UserError(f"The mask of {crop.name} is empty. Leave it out if the animal fills the crop.")
        examples.append(_example(grey, mask, rings, input_size, {}))
    return examples


def read_archive(archive: Path, input_size: int, blank: float, limit: int, seed: int) -> list[Example]:
    """Crops of an archive, and a share `blank` of grounds: see `read`."""
    try:
        truth = json.loads((archive / "truth" / "instances.json").read_text())
        images = {image["id"]: image for image in truth["images"]}
        annotations = [a for a in truth["annotations"] if (archive / "truth" / "rings" / f"{a['id']}.png").is_file()]
    except (OSError, ValueError, KeyError) as e:
        raise UserError(
            f"{archive} has no truth/instances.json that can be read ({e}). `pusa synth` writes such a folder."
        ) from e
    if not annotations:
        raise UserError(f"{archive}/truth/rings has no ring masks. Make an archive with `pusa synth`.")
    chosen = (
        [annotations[i * len(annotations) // limit] for i in range(limit)] if limit < len(annotations) else annotations
    )
    rng = np.random.default_rng(seed)
    examples = []
    by_image: dict[int, list[dict[str, Any]]] = {}
    for a in chosen:
        by_image.setdefault(a["image_id"], []).append(a)
    boxes = {image: [_crop_box(a, images[image]) for a in annotations if a["image_id"] == image] for image in by_image}
    for image, group in by_image.items():
        rgb = _read(archive / "photos" / images[image]["file_name"])
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        for a in group:
            box = _crop_box(a, images[image])
            x0, y0, x1, y1 = box
            rle = masks.from_coco(a["segmentation"], *grey.shape)
            mask = masks.crop_mask(rle, box, (x1 - x0, y1 - y0))
            path = archive / "truth" / "rings" / f"{a['id']}.png"
            rings = photo_files.decode_mask_png(path.read_bytes())
            if rings.shape != mask.shape:
                raise UserError(
                    f"{path} has {rings.shape[::-1]} pixels, the annotation's crop box has {mask.shape[::-1]}."
                )
            examples.append(_example(grey[y0:y1, x0:x1], mask, rings, input_size, a))
            if rng.random() < blank and (corner := _free(rng, mask.shape, grey.shape, boxes[image])):
                x, y = corner
                ground = grey[y : y + mask.shape[0], x : x + mask.shape[1]]
                examples.append(_example(ground, mask, np.zeros_like(mask), input_size, {}))
    return examples


def _read(path: Path) -> np.ndarray:
    try:
        return photo_files.decode(path.read_bytes())
    except (OSError, PhotoError) as e:
        raise UserError(f"Cannot read the photo {path}: {e}") from e


def _crop_box(annotation: dict[str, Any], image: dict[str, Any]) -> tuple[int, int, int, int]:
    """The annotation's box rounded outwards, inside the photo."""
    x, y, w, h = annotation["bbox"]
    x1, y1 = min(int(np.ceil(x + w)), image["width"]), min(int(np.ceil(y + h)), image["height"])
    return max(int(np.floor(x)), 0), max(int(np.floor(y)), 0), x1, y1


def _example(grey: np.ndarray, mask: np.ndarray, rings: np.ndarray, input_size: int, about: dict[str, Any]) -> Example:
    factor = input_size / max(grey.shape)
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    layers = np.dstack((grey, mask * np.uint8(255), (rings & mask) * np.uint8(255)))
    layers = cv2.resize(layers, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    return Example(layers, max(grey.shape), about)


def _free(
    rng: np.random.Generator, size: tuple[int, int], photo: tuple[int, ...], boxes: list[tuple[int, int, int, int]]
) -> tuple[int, int] | None:
    """A corner (x, y) where a box of `size` (h, w) touches no animal; None if 20 draws find none."""
    h, w = size
    for _ in range(20):
        x, y = int(rng.integers(photo[1] - w + 1)), int(rng.integers(photo[0] - h + 1))
        if all(x + w <= x0 or x >= x1 or y + h <= y0 or y >= y1 for x0, y0, x1, y1 in boxes):
            return x, y
    return None


def augment(example: Example, window: int, clahe: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random view of an example: network input (window, window) uint8, and its ring mask, float32 in [0, 1].

    Turned, sheared, scaled 0.6 to 1.5 and mirrored about a point of the seal; then light, contrast, sharpness, noise.
    """
    h, w = example.layers.shape[:2]
    ys, xs = np.nonzero(example.layers[::8, ::8, 1])
    k = int(rng.integers(len(xs))) if len(xs) else 0
    centre = np.array([xs[k] * 8, ys[k] * 8] if len(xs) else [w / 2, h / 2], float)
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.3 else rng.normal(0, 0.25)
    scale = np.exp(rng.uniform(np.log(0.6), np.log(1.5)))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1, rng.normal(0, 0.12)], [0, np.exp(rng.normal(0, 0.1))]])
    flip = np.diag([rng.choice([-1.0, 1.0]), 1.0])
    linear = scale * turn @ shear @ flip
    offset = window / 2 + rng.uniform(-0.2, 0.2, 2) * window - linear @ centre
    layers = cv2.warpAffine(example.layers, np.column_stack((linear, offset)), (window, window), borderValue=(0, 0, 0))
    grey = photometric(layers[..., 0], rng)
    mask = layers[..., 1] >= 128
    return np.where(mask, extract.tone_map(grey, clahe), 0).astype(np.uint8), layers[..., 2].astype(
        np.float32
    ) / 255 * mask


def photometric(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other light, contrast, sharpness and noise for a grey picture (H, W) uint8."""
    h, w = grey.shape
    value = grey.astype(np.float32) / 255
    value = value ** np.exp(rng.normal(0, 0.2))
    middle = value.mean()
    value = (value - middle) * rng.uniform(0.6, 1.3) + middle + rng.normal(0, 0.05)
    lighting = cv2.resize(rng.normal(0, 0.06, (4, 4)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    value += lighting
    if rng.random() < 0.4:
        value = cv2.GaussianBlur(value, (0, 0), rng.uniform(0.4, 2.0))
    if rng.random() < 0.3:  # wet fur: glints
        spots = cv2.GaussianBlur((rng.random((h, w)) < 5e-4).astype(np.float32), (0, 0), rng.uniform(1, 3))
        value += spots * rng.uniform(2, 6)
    value += rng.normal(0, rng.uniform(0, 0.05), value.shape).astype(np.float32)
    return (np.clip(value, 0, 1) * 255).astype(np.uint8)
