"""Training of the network that tells the side, on animals whose side a file says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import Dataset

from pusa import exchange, records, truth, weights
from pusa import photos as photo_files
from pusa.errors import PhotoError, UserError
from pusa.listing import normal_path
from pusa.pattern.data import photometric
from pusa.records import Run
from pusa.segmentation.detect import crop_box_of
from pusa.segmentation.masks import Rle, crop_mask
from pusa.sides.evaluate import agreement
from pusa.sides.network import KINDS, SideNetwork, picture
from pusa.steps import Report, StepConfig, Task, run

KEPT = 192  # px, longer side of the examples in memory: views are cut from them


class SideTraining(StepConfig):
    """Settings of a training run."""

    coco: tuple[tuple[Path, Path], ...] = ()  # instances with a `side` (any format of `exchange`), and their photos
    found: tuple[tuple[Path, Path], ...] = ()  # runs, and such instances: animals as the run found them
    validation: tuple[tuple[Path, Path], ...] = ()  # as `found`, held out
    out: Path = Path("sides.safetensors")
    width: int = Field(default=16, gt=0)  # channels of the first convolution
    steps: int = Field(default=1500, gt=0)
    epoch_steps: int = Field(default=250, gt=0)
    batch: int = Field(default=64, gt=0)
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2


Labelled = tuple[np.ndarray, np.ndarray, str]  # grey (h, w) uint8, mask (h, w) bool, one of SIDES that is known
Example = tuple[np.ndarray, np.ndarray, int]  # likewise, number of KINDS


def read(file: Path, folder: Path) -> list[Labelled]:
    """The animals of a file whose side it says, longer side at most KEPT. Raises UserError where there are none, or a
    photo cannot be read."""
    examples: list[Labelled] = []
    paths = {normal_path(str(path.relative_to(folder))): path for path in folder.rglob("*") if path.is_file()}
    for name, given in exchange.read_instances(str(file), archive=str(folder)).items():
        animals = [g for g in given if g.side != "unknown"]
        if not animals:
            continue
        if name not in paths:
            raise UserError(f"{file} names the photo {name}, which is not in {folder}.")
        try:
            rgb = photo_files.decode(paths[name].read_bytes())
        except (OSError, PhotoError) as e:
            raise UserError(f"Cannot read the photo {paths[name]}: {e}") from e
        height, width = rgb.shape[:2]
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        for animal in (g.with_mask(height, width) for g in animals):
            box = crop_box_of(animal.box_in(width, height), width, height)
            x0, y0, x1, y1 = (int(v) for v in box)
            examples.append(_example(grey[y0:y1, x0:x1], box, animal.mask, animal.side))
    return _some(examples, file)


def read_found(run: Path, file: Path) -> list[Labelled]:
    """Likewise the animals of a run whose side a file says, with the masks that the run has of them: a detector's lack
    flippers and noses, by which a person tells left from right."""
    opened, examples = Run(str(run)), []
    known = exchange.read_instances(str(file), archive=opened.manifest().get("archive"))
    columns = [f"instances.list.element.{name}" for name in ("instance_id", "mask", "crop_box", "crop")]
    for batch in opened.batches("photos", ["path", *columns]):
        animals = truth.matches(batch, known)
        for instance in (i for row in records.instances(batch) for i in row if i["crop"] is not None):
            animal = animals.get(instance["instance_id"])
            if animal is not None and animal.side != "unknown":
                grey = cv2.cvtColor(photo_files.decode_jpeg(instance["crop"]), cv2.COLOR_RGB2GRAY)
                examples.append(_example(grey, instance["crop_box"], instance["mask"], animal.side))
    return _some(examples, file)


def _example(grey: np.ndarray, box: Sequence[int], mask: Rle | None, side: str) -> Labelled:
    factor = min(1.0, KEPT / max(grey.shape))
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    inside = np.ones(size[::-1], bool) if mask is None else crop_mask(mask, box, size)
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA), inside, side


def _some(examples: list[Labelled], file: Path) -> list[Labelled]:
    if not examples:
        raise UserError(f"{file}: expected animals with a `side` ({', '.join(KINDS)}), found none.")
    return examples


def numbered(examples: Iterable[Labelled]) -> list[Example]:
    """Those that show one of KINDS."""
    return [(grey, inside, KINDS.index(side)) for grey, inside, side in examples if side in KINDS]


def augment(example: Example, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A random view of an example, as `picture` makes it: turned a little, sheared, in other light, with a mask that
    is too coarse, too wide or too narrow, behind a stone or grass, from farther away; sometimes the outline alone,
    which is what differs least between one kind of animal, or photo, and another."""
    grey, inside, kind = example
    h, w = grey.shape
    angle, reach = rng.normal(0, 8), 1.3 * max(h, w)
    turn = cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1.0)
    shear = np.array([[1, rng.normal(0, 0.1)], [0, np.exp(rng.normal(0, 0.1))]])
    linear = shear @ turn[:, :2]
    side = round(reach)
    there = np.column_stack((linear, np.array([side / 2, side / 2]) - linear @ [w / 2, h / 2]))
    mask = cv2.warpAffine(inside.astype(np.uint8), there, (side, side), flags=cv2.INTER_NEAREST)
    if rng.random() < 0.5:  # as a detector finds it: without flippers and whatever else is thin
        thickness = 2 * float(cv2.distanceTransform(mask, cv2.DIST_L2, 3).max())
        brush = (max(1, round(thickness * rng.uniform(0.1, 0.6))),) * 2
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, brush))
    if rng.random() < 0.5:
        change = cv2.erode if rng.random() < 0.5 else cv2.dilate
        mask = change(mask, np.ones((int(rng.integers(2, 7)),) * 2, np.uint8))
    if rng.random() < 0.15:  # grass
        for x in rng.integers(side, size=int(rng.integers(1, 12))):
            cv2.line(mask, (int(x), 0), (int(x + rng.normal(0, side / 8)), side), 0, int(rng.integers(1, 5)))
    if rng.random() < 0.25:  # behind a stone, or beyond the edge of the photo
        x, y = rng.integers(side, size=2)
        reach_x, reach_y = (int(v) for v in rng.integers(side // 8, side // 3, 2))
        mask[max(0, y - reach_y) : y + reach_y, max(0, x - reach_x) : x + reach_x] = 0
    ys, xs = np.nonzero(mask)
    if len(xs) < 16:
        return picture(grey, inside), kind
    window = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    seen = photometric(cv2.warpAffine(grey, there, (side, side)), rng)[window]
    if (far := rng.uniform(0.2, 1.5)) < 1:
        small = (max(8, round(seen.shape[1] * far)), max(8, round(seen.shape[0] * far)))
        seen = cv2.resize(cv2.resize(seen, small, interpolation=cv2.INTER_AREA), seen.shape[::-1])
    found = picture(seen, mask[window] > 0)
    if (plain := rng.random()) < 0.3:
        found[0] = np.where(found[1] > 127, rng.integers(256), 0)
    elif plain < 0.5:  # light and shade without the coat
        found[0] = cv2.GaussianBlur(found[0], (0, 0), rng.uniform(1, 4)) * (found[1] > 127)
    return found, kind


class Views(Dataset):
    """Random views for ever: item p is fixed by (seed, p). Each side is drawn as often as its animals are, to the power
    of a half: rare ones are learnt, and frequent ones are not thought rare."""

    def __init__(self, examples: Sequence[Example], seed: int) -> None:
        self.examples, self.seed = examples, seed
        kinds = np.array([kind for *_, kind in examples])
        often = np.bincount(kinds, minlength=len(KINDS))
        share = 1 / np.sqrt(often[kinds])
        self.upto = np.cumsum(share / share.sum())

    def __getitem__(self, p: int) -> tuple[Tensor, int]:
        rng = np.random.default_rng((self.seed, p))
        chosen = min(int(np.searchsorted(self.upto, rng.random())), len(self.examples) - 1)
        seen, kind = augment(self.examples[chosen], rng)
        return torch.from_numpy(seen), kind


class SideTask(Task[SideTraining]):
    """The network learns which side is seen."""

    def __init__(self, config: SideTraining) -> None:
        super().__init__(config)
        self.best = "right" if config.validation else None
        torch.manual_seed(config.seed)
        self.width = config.width
        if config.start is not None:
            stored = weights.load(config.start, "sides")
            self.width = stored.settings["network"]["width"]
        self.network = SideNetwork(self.width)
        if config.start is not None:
            weights.load_into(self.network, stored)
        sources = [read(file, folder) for file, folder in config.coco]
        sources += [read_found(run, file) for run, file in config.found]
        self.examples = numbered(chain.from_iterable(sources))
        if not self.examples:
            raise UserError(
                "There is nothing to learn from: give a file of instances with a `side` and its photos as `coco`, or "
                "a run and such a file as `found`."
            )
        self.held_out = numbered(e for run, file in config.validation for e in read_found(run, file))
        self.modules = nn.ModuleDict({"network": self.network})
        self.optimizer = torch.optim.AdamW(self.modules.parameters(), weight_decay=config.weight_decay)

    def data(self) -> Dataset:
        return Views(self.examples, self.config.seed)

    def loss(self, batch: Any, progress: float) -> dict[str, Tensor]:
        seen, kinds = batch
        with self.autocast():
            logits = self.network(seen.to(self.device))
        return {"loss": F.cross_entropy(logits.float(), kinds.to(self.device), label_smoothing=0.05)}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        if not self.held_out:
            return {}
        self.network.eval()
        seen = torch.from_numpy(np.stack([picture(grey, inside) for grey, inside, _ in self.held_out]))
        told = torch.cat([self.network(part.to(self.device)).softmax(1).cpu() for part in seen.split(256)]).numpy()
        self.network.train()
        return agreement(told, np.array([kind for *_, kind in self.held_out]))

    def save(self) -> None:
        weights.save(self.config.out, "sides", {"network": {"width": self.width}}, self.network.state_dict())


def loop(config: SideTraining, report: Report, resume: Path | None = None) -> Path:
    """Trains the network: see `steps.run`. Raises UserError for unusable data."""
    return run(SideTask(config), report, resume)
