"""Photos with true masks from COCO files, and the augmentation that training shows them through."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pusa import photos, storage
from pusa.errors import PhotoError, UserError
from pusa.exchange import coco, segmentations
from pusa.segmentation import masks
from pusa.segmentation.masks import Detections, Rle


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo file and the masks of its animals, in the pixels of the upright photo."""

    path: Path
    masks: list[Rle]

    def read(self) -> NDArray[np.uint8]:
        """The photo, (h, w, 3) RGB uint8, upright. Raises UserError: unreadable, or its masks have another size."""
        try:
            rgb = photos.decode(self.path.read_bytes(), path=self.path.name)
        except (OSError, PhotoError) as e:
            raise UserError(f"Cannot read the photo {self.path}: {e}") from e
        if self.masks and list(rgb.shape[:2]) != self.masks[0]["size"]:
            raise UserError(f"{self.path} has (height, width) {rgb.shape[:2]}, its masks have {self.masks[0]['size']}.")
        return rgb

    def truth(self) -> Detections:
        """The true animals in the form of detections, with scores of 1."""
        boxes = np.array([masks.box(m) for m in self.masks], np.float32).reshape(-1, 4)
        return Detections(boxes, np.ones(len(boxes), np.float32), self.masks)


def read_coco(file: Path, root: Path) -> tuple[list[LabelledPhoto], list[str]]:
    """The photos of a COCO file, sorted by name, and what was left out of them and why; file names are relative to
    `root`. All categories count as animal.

    Crowd regions and annotations that are there twice are left out, and photos that are missing, of another size, or
    have an animal without a usable mask, which would be learnt as ground. Photos without animals stay.
    Raises UserError where the file is not COCO.
    """
    content = _content(file)
    left_out: list[str] = []
    images: dict[str, dict[str, Any]] = {}
    unusable: dict[str, str] = {}  # image id: why
    for image in content["images"]:
        key = str(image.get("id")) if isinstance(image, dict) else ""
        if not key or key == "None" or not isinstance(image.get("file_name"), str):
            left_out.append(f"{file}: an image without id or file_name: {image!r:.100}")
        elif key in images:
            left_out.append(f"{file}: image {key} ({image['file_name']}) has the id of {images[key]['file_name']}")
        else:
            images[key] = image
            if problem := _problem(image, Path(root)):
                unusable[key] = f"{file}: image {key} ({image['file_name']}) {problem}"
    seen: set[str] = set()
    found: dict[str, list[Rle]] = {key: [] for key in images}
    for a in content["annotations"]:
        key, number = (str(a.get("image_id")), str(a.get("id"))) if isinstance(a, dict) else ("", "")
        where = f"{file}: annotation {number}"
        if key not in images:
            left_out.append(f"{where} is of image {key}, which is not in the file")
        elif number in seen and number != "None":
            left_out.append(f"{where} is there twice")
        elif key not in unusable and not a.get("iscrowd", 0):
            try:
                found[key].append(segmentations.checked(a.get("segmentation") or None, images[key], where))
            except UserError as e:
                unusable[key] = f"{str(e).rstrip('.')}; so all of {images[key]['file_name']}"
        seen.add(number)
    labelled = [
        LabelledPhoto(Path(root) / image["file_name"], found[key])
        for key, image in images.items()
        if key not in unusable
    ]
    return sorted(labelled, key=lambda p: p.path), [*unusable.values(), *left_out]


def _content(file: Path) -> dict[str, Any]:
    """The content of a COCO file."""
    try:
        content = json.loads(Path(file).read_text())
    except OSError as e:
        raise UserError(f"Cannot read the COCO file {file}: {e.strerror}.") from e
    except ValueError as e:
        raise UserError(f"{file} is not a COCO file: expected JSON ({e}).") from e
    if not coco.is_coco(content):
        raise UserError(f"{file} is not a COCO file of instances: expected lists of `images` and `annotations`.")
    return content


def _problem(image: dict[str, Any], root: Path) -> str:
    """What is wrong with the photo of an image of a COCO file; nothing where it fits. Its size is filled in."""
    try:
        header = photos.read_header(*storage.locate(root / image["file_name"]))
    except PhotoError as e:
        return str(e)
    size, said = [header.width, header.height], [image.get("width"), image.get("height")]
    if None not in said and said != size:
        return f"has {size[0]} x {size[1]} pixels when upright, the file says {said[0]} x {said[1]}"
    image["width"], image["height"] = size
    return ""


class TrainingPhotos(torch.utils.data.Dataset):
    """Augmented photos for ever: item p is a photo of pass p // n over the data; order and form follow from the seed.

    So a run that is resumed at item p goes on exactly as one that was never broken, with any number of workers.
    An item: image float (3, h, w), RGB 0..1, and torchvision's target, {"boxes", "labels", "masks"}.
    """

    def __init__(self, labelled: list[LabelledPhoto], height: int, width: int, seed: int):
        self.labelled, self.height, self.width, self.seed = labelled, height, width, seed

    def __getitem__(self, p: int) -> tuple[Tensor, dict[str, Tensor]]:
        turn, i = divmod(p, len(self.labelled))
        order = np.random.default_rng((self.seed, turn)).permutation(len(self.labelled))
        rng = np.random.default_rng((self.seed, turn, i))
        photo, rgb = self._readable(np.roll(order, -i))
        rgb, layers = augment(rgb, [masks.decode(m) for m in photo.masks], self.height, self.width, rng)
        boxes = np.array([_box(layer) for layer in layers], np.float32).reshape(-1, 4)
        target = {
            "boxes": torch.from_numpy(boxes),
            "labels": torch.ones(len(boxes), dtype=torch.int64),
            "masks": torch.from_numpy(np.array(layers, np.uint8).reshape(-1, *rgb.shape[:2])),
        }
        return torch.from_numpy(rgb).permute(2, 0, 1).float() / 255, target

    def _readable(self, order: NDArray[np.int64]) -> tuple[LabelledPhoto, NDArray[np.uint8]]:
        """The first photo that can be decoded: one whose pixels are damaged gives its place to the next."""
        for i in order:
            try:
                return self.labelled[i], self.labelled[i].read()
            except UserError as e:
                print(f"left out: {e}", flush=True)
        raise UserError("None of the photos to learn from can be read.")


def _box(layer: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    x, y = np.flatnonzero(layer.any(0)), np.flatnonzero(layer.any(1))
    return x[0], y[0], x[-1] + 1, y[-1] + 1


def augment(
    rgb: NDArray[np.uint8], layers: list[NDArray[np.bool_]], height: int, width: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """A photo (h, w, 3) and masks (h, w), flipped, scaled and cut to at most height x width, with other colours.

    A mask of which under a quarter, or under 64 pixels, remain in the cut is dropped.
    """
    # The photo fits the canvas at scale 1; mostly larger, so that cuts show animals near and at the edge.
    fit = min(height / rgb.shape[0], width / rgb.shape[1])
    scale = fit * np.exp(rng.uniform(np.log(0.7), np.log(2.0)))
    w, h = max(round(rgb.shape[1] * scale), 32), max(round(rgb.shape[0] * scale), 32)
    x = int(rng.integers(max(w - width, 0) + 1))
    y = int(rng.integers(max(h - height, 0) + 1))
    flip = rng.random() < 0.5

    def move(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        scaled = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        part = scaled[y : y + height, x : x + width]
        return np.ascontiguousarray(part[:, ::-1] if flip else part)

    kept = []
    for layer in layers:
        moved = move(layer.astype(np.uint8) * 255) >= 128
        if moved.sum() >= max(64, 0.25 * layer.sum() * scale**2):
            kept.append(moved)
    return recolour(move(rgb), rng), kept


def recolour(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Other light, lens and sensor: white balance, contrast, brightness, gamma, saturation, grey, blur, noise."""
    x = rgb.astype(np.float32) / 255
    x *= rng.uniform(0.8, 1.25, 3).astype(np.float32)
    grey = x.mean(-1, keepdims=True)
    x = grey + (x - grey) * np.float32(0 if rng.random() < 0.25 else rng.uniform(0.3, 1.6))
    middle = x.mean()
    x = (x - middle) * np.float32(rng.uniform(0.5, 1.5)) + middle * np.float32(rng.uniform(0.6, 1.5))
    if rng.random() < 0.5:  # tints that white balance cannot give: one colour channel in place of another
        x = x[..., rng.permutation(3)]
    x = x.clip(0, 1) ** np.float32(np.exp(rng.uniform(-0.4, 0.4)))
    if rng.random() < 0.3:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.5, 2.0))
    if rng.random() < 0.4:
        x = x + rng.standard_normal(x.shape, np.float32) * np.float32(rng.uniform(0.01, 0.08))
    return (x.clip(0, 1) * 255).astype(np.uint8)
