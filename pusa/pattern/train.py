"""Training of the U-Net on crops with ring masks: training/pattern.py runs `loop` in Ray Train's workers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pusa import photos as photo_files
from pusa import weights
from pusa.config import Config
from pusa.errors import PhotoError, UserError
from pusa.pattern import extract
from pusa.pattern.extract import PatternConfig, PatternExtractor
from pusa.pattern.unet import UNet
from pusa.schedule import learning_rate_factor
from pusa.segmentation import masks

Report = Callable[[dict[str, Any], Path | None], None]
TOLERANCE = 2  # px of the network's input, of the F1 of lines


class PatternTraining(Config):
    """Settings of a training run. An archive is a folder as `pusa synth` writes it: photos/, truth/."""

    archives: tuple[Path, ...]  # one or several
    validation: tuple[Path, ...] = ()  # likewise, held out; empty: no validation
    validation_crops: int = 60  # at most so many, evenly spread
    max_crops: int = 2000  # kept in memory, 0.5 MB each, evenly spread
    out: Path = Path("pattern.safetensors")  # the weights; the state to resume from lies in OUT.checkpoint/
    start: str | None = None  # weights to fine-tune, such as starter/pattern; None: from scratch
    base: int = (
        8  # channels of the first level: 8 = 0.5 M parameters; 12 = 1.1 M, twice as slow; 64 = the public network
    )
    steps: int = Field(default=6000, gt=0)
    minutes: float | None = None  # ends after this time at the latest; the learning rate falls accordingly
    epoch_steps: int = Field(default=250, gt=0)  # report, validation and checkpoint after so many steps
    batch: int = Field(default=8, gt=0)
    window: int = 256  # px, side of the square that a step sees of a crop; a multiple of 16
    blank: float = 0.1  # share of examples without rings: grounds in the outline of a seal; 0 = none
    learning_rate: float = 1e-3  # peak, AdamW
    warm_up: float = 0.03  # fraction of the run over which the learning rate rises
    weight_decay: float = 1e-4
    extraction: PatternConfig = PatternConfig()  # how the network's input is made, and its output judged
    workers: int = 1  # processes that augment; 0 does it between the steps
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Example:
    """A crop at the network's scale: layers (h, w, 3) uint8 = grey, mask of the seal, mask of the rings (0 or 255)."""

    layers: np.ndarray


def read_archive(archive: Path, input_size: int, blank: float, limit: int, seed: int) -> list[Example]:
    """Crops of an archive at most `limit`, and a share `blank` of grounds in a seal's outline without rings.

    Raises UserError where truth or photos are missing or do not fit.
    """
    archive = Path(archive)
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
            examples.append(_example(grey[y0:y1, x0:x1], mask, rings, input_size))
            if rng.random() < blank and (corner := _free(rng, mask.shape, grey.shape, boxes[image])):
                x, y = corner
                ground = grey[y : y + mask.shape[0], x : x + mask.shape[1]]
                examples.append(_example(ground, mask, np.zeros_like(mask), input_size))
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


def _example(grey: np.ndarray, mask: np.ndarray, rings: np.ndarray, input_size: int) -> Example:
    factor = input_size / max(grey.shape)
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    layers = np.dstack((grey, mask * np.uint8(255), (rings & mask) * np.uint8(255)))
    return Example(cv2.resize(layers, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR))


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
    return extract.masked(extract.tone_map(grey, clahe), mask), layers[..., 2].astype(np.float32) / 255 * mask


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


class TrainingWindows(Dataset):
    """Augmented windows for ever: item p is fixed by (seed, p), so a resumed run goes on as if it had never stopped."""

    def __init__(self, examples: list[Example], config: PatternTraining) -> None:
        self.examples, self.config = examples, config

    def __getitem__(self, p: int) -> tuple[Tensor, Tensor]:
        turn, i = divmod(p, len(self.examples))
        order = np.random.default_rng((self.config.seed, turn)).permutation(len(self.examples))
        rng = np.random.default_rng((self.config.seed, turn, i))
        grey, rings = augment(self.examples[order[i]], self.config.window, self.config.extraction.clahe, rng)
        return torch.from_numpy(grey)[None].float() / 255, torch.from_numpy(rings)[None]


def loss_of(logits: Tensor, rings: Tensor) -> Tensor:
    """Binary cross entropy + Dice loss; logits and rings (B, 1, H, W). Dice is over the batch: blanks have none."""
    probability = logits.sigmoid()
    dice = (2 * (probability * rings).sum() + 1) / (probability.sum() + rings.sum() + 1)
    return F.binary_cross_entropy_with_logits(logits, rings) + 1 - dice


def line_counts(found: np.ndarray, truth: np.ndarray, tolerance: int = TOLERANCE) -> np.ndarray:
    """For two masks (H, W) bool: pixels of both, of either, found, found near the truth, true, true near the found."""

    def near(mask: np.ndarray) -> np.ndarray:
        distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return distance <= tolerance if mask.any() else mask

    return np.array(
        [(found & truth).sum(), (found | truth).sum(), found.sum(), (found & near(truth)).sum(),
         truth.sum(), (truth & near(found)).sum()]
    )  # fmt: skip


def scores(counts: np.ndarray) -> dict[str, float]:
    """IoU, and precision, recall and F1 with tolerance, of summed `line_counts`; all 0 to 1."""
    both, either, found, found_near, true, true_near = (float(c) for c in counts)
    precision, recall = found_near / max(found, 1), true_near / max(true, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return {"iou": both / max(either, 1), "precision": precision, "recall": recall, "f1": f1}


def evaluate(extractor: PatternExtractor, examples: list[Example]) -> dict[str, float]:
    """`scores` over the pixels of all examples, at the scale of the network's input."""
    config, total = extractor.config, np.zeros(6)
    inside = [e.layers[..., 1] >= 128 for e in examples]
    inputs = [
        extract.masked(extract.tone_map(e.layers[..., 0], config.clahe), m)
        for e, m in zip(examples, inside, strict=True)
    ]
    for example, mask, probability in zip(examples, inside, extractor.probabilities(inputs), strict=True):
        total += line_counts(extract.binary_mask(probability, mask, config), example.layers[..., 2] >= 128)
    return scores(total)


def loop(config: PatternTraining, report: Report, resume: Path | None = None) -> Path:
    """Trains, calls `report(metrics, checkpoint folder)` after every `epoch_steps`, and returns the file of weights.

    `resume`: a checkpoint folder of a run with the same settings; the run goes on as if it had never stopped (where it
    is measured in steps, not minutes). Raises UserError for unusable data.
    """
    size = config.extraction.input_size
    share = -(-config.max_crops // max(len(config.archives), 1))
    examples = [e for a in config.archives for e in read_archive(a, size, config.blank, share, config.seed)]
    if not examples:
        raise UserError("There is no archive to learn from. Give one or more folders written by `pusa synth`.")
    each = -(-config.validation_crops // max(len(config.validation), 1))
    held_out = [e for a in config.validation for e in read_archive(a, size, 0, each, config.seed)]

    torch.manual_seed(config.seed)
    device = torch.device(config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    network, base = UNet(config.base), config.base
    if config.start is not None:
        stored = weights.load(config.start, "pattern")
        base = stored.settings["network"]["base"]
        network = UNet(base)
        weights.load_into(network, stored)
    network.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=config.weight_decay)
    step, elapsed = 0, 0.0
    if resume is not None:
        state = torch.load(Path(resume) / "state.pt", map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        step, elapsed = state["step"], state["elapsed"]

    order = range(step * config.batch, config.steps * config.batch)
    batches = iter(
        DataLoader(TrainingWindows(examples, config), config.batch, sampler=order, num_workers=config.workers)
    )
    began, checkpoint = time.monotonic() - elapsed, config.out.with_suffix(".checkpoint")
    done = False
    while not done:
        torch.manual_seed(config.seed + step)  # of dropout
        network.train()
        losses = []
        for grey, rings in batches:
            elapsed = time.monotonic() - began
            progress = max(step / config.steps, elapsed / 60 / config.minutes if config.minutes else 0)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * learning_rate_factor(progress, config.warm_up)
            x = grey.to(device).contiguous(memory_format=torch.channels_last)
            loss = loss_of(network(x), rings.to(device))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
            step += 1
            done = step >= config.steps or progress >= 1
            if done or step % config.epoch_steps == 0:
                break
        elapsed = time.monotonic() - began
        measured: dict[str, Any] = {"step": step, "minutes": elapsed / 60, "loss": float(np.mean(losses))}
        if held_out:
            judged = config.extraction.model_copy(update={"device": config.device})
            measured |= evaluate(PatternExtractor(judged, network=network.eval()), held_out)
        checkpoint.mkdir(parents=True, exist_ok=True)
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "elapsed": elapsed}
        torch.save(state, checkpoint / "state.pt")
        weights.save(config.out, "pattern", {"network": {"base": base}}, network.state_dict())
        report(measured, checkpoint)
    return config.out
