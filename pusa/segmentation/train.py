"""Training of the detector from COCO files, without Ray: training/segmentation.py runs `loop` in Ray Train's workers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch.utils.data import DataLoader

from pusa import metrics, weights
from pusa.config import Config
from pusa.errors import UserError
from pusa.segmentation.data import LabelledPhoto, TrainingPhotos, read_coco
from pusa.segmentation.mask_rcnn import MaskRCNN, SegmentationConfig, Segmenter, build

Report = Callable[[dict[str, Any], Path | None], None]


class SegmentationTraining(Config):
    """Settings of a training run. Sizes are in pixels."""

    coco: list[tuple[Path, Path]]  # (COCO file, folder of its photos), one or several
    validation: list[tuple[Path, Path]] = []  # likewise; empty: no validation
    validation_photos: int = 60  # the first so many, evenly spread: a photo takes a third of a second
    out: Path = Path("segmentation.safetensors")  # the weights; the state to resume from lies in OUT.checkpoint/
    start: str = "imagenet"  # or weights to fine-tune, such as starter/segmentation: their architecture is kept
    network: dict[str, Any] = {"architecture": "lite"}  # see mask_rcnn.build
    steps: int = Field(2000, gt=0)
    minutes: float | None = None  # ends after this time at the latest; the learning rate falls accordingly
    epoch_steps: int = Field(250, gt=0)  # report, validation and checkpoint after so many steps
    batch: int = Field(4, gt=0)
    height: int = 384  # photos are scaled and cut to at most this ...
    width: int = 512
    learning_rate: float = 4e-4  # peak, AdamW
    backbone_rate: float = 0.3  # the backbone's learning rate as a fraction; its ImageNet features are good already
    weight_decay: float = 0.01
    warm_up: float = 0.05  # fraction of the run over which the learning rate rises
    frozen_blocks: int = 3  # blocks of the backbone (of 16) that keep their weights, with the stem; 3 end stride 4
    workers: int = 1  # processes that read and augment photos; 0 does it between the steps
    log_every: int = 20  # steps between progress lines; 0: none
    seed: int = 0
    device: str = "auto"


def learning_rate_factor(progress: float, warm_up: float) -> float:
    """Linear rise over the fraction `warm_up` of the run, then half a cosine to 0; `progress` in 0..1."""
    if progress < warm_up:
        return max(progress / warm_up, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min((progress - warm_up) / (1 - warm_up), 1)))


def evaluate(segmenter: Segmenter, labelled: list[LabelledPhoto]) -> dict[str, float]:
    """Accuracy on photos with true masks at the segmenter's own score threshold: see `metrics.detection_metrics`."""
    found = [segmenter.segment([photo.read()], score_threshold=0.05)[0] for photo in labelled]
    return metrics.detection_metrics(found, [p.truth() for p in labelled], segmenter.config.score_threshold)


def read_all(sources: list[tuple[Path, Path]]) -> list[LabelledPhoto]:
    """The photos of several COCO files."""
    return [photo for file, root in sources for photo in read_coco(file, root)]


def spread(labelled: list[LabelledPhoto], n: int) -> list[LabelledPhoto]:
    """At most n photos, evenly spread over the list."""
    return [labelled[i * len(labelled) // n] for i in range(min(n, len(labelled)))]


def loop(config: SegmentationTraining, report: Report, resume: Path | None = None) -> Path:
    """Trains, calls `report(metrics, checkpoint folder)` after every `epoch_steps`, and returns the file of weights.

    `resume`: a checkpoint folder of a run with the same settings; the run goes on as if it had never stopped (where it is
    measured in steps, not minutes). Raises UserError for unusable data.
    """
    labelled = read_all(config.coco)
    if not any(p.masks for p in labelled):
        raise UserError(f"There is no animal to learn from in {', '.join(str(file) for file, _ in config.coco)}.")
    held_out = spread(read_all(config.validation), config.validation_photos)

    torch.manual_seed(config.seed)
    device = torch.device(config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    network, settings = start_network(config)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(parameter_groups(network, config), weight_decay=config.weight_decay)
    step, elapsed = 0, 0.0
    if resume is not None:
        state = torch.load(Path(resume) / "state.pt", map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        step, elapsed = state["step"], state["elapsed"]

    data = TrainingPhotos(labelled, config.height, config.width, config.seed)
    order = range(step * config.batch, config.steps * config.batch)
    batches = iter(DataLoader(data, config.batch, sampler=order, num_workers=config.workers, collate_fn=list))
    began = time.monotonic() - elapsed
    first, losses = (step, elapsed), Losses()
    checkpoint = config.out.with_suffix(".checkpoint")
    done = False
    while not done:
        # The samplers of anchors and proposals draw from torch's global generator.
        torch.manual_seed(config.seed + step)
        network.train()
        for images_and_targets in batches:
            elapsed = time.monotonic() - began
            progress = max(step / config.steps, elapsed / 60 / config.minutes if config.minutes else 0)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * group["share"] * learning_rate_factor(progress, config.warm_up)
            images = [image.to(device) for image, _ in images_and_targets]
            targets = [{k: v.to(device) for k, v in target.items()} for _, target in images_and_targets]
            parts = network(images, targets)
            optimizer.zero_grad()
            sum(parts.values()).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            losses.add(parts)
            step += 1
            if config.log_every and step % config.log_every == 0:
                print(progress_line(step, first, elapsed, progress, losses), flush=True)
            done = step >= config.steps or progress >= 1
            if done or step % config.epoch_steps == 0:
                break
        elapsed = time.monotonic() - began
        measured: dict[str, Any] = {"step": step, "minutes": elapsed / 60} | losses.means(clear=True)
        if held_out:
            segmenter = Segmenter(SegmentationConfig(device=config.device), network=network)
            measured |= evaluate(segmenter, held_out)
        checkpoint.mkdir(parents=True, exist_ok=True)
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "elapsed": elapsed}
        torch.save(state, checkpoint / "state.pt")
        weights.save(config.out, "segmentation", settings, network.state_dict())
        report(measured, checkpoint)
    return config.out


def start_network(config: SegmentationTraining) -> tuple[MaskRCNN, dict[str, Any]]:
    """The network to train and its settings: with an ImageNet backbone, or from weights."""
    if config.start == "imagenet":
        return build(config.network, pretrained=True), config.network
    stored = weights.load(config.start, "segmentation")
    network = build(stored.settings)
    weights.load_into(network, stored)
    return network, stored.settings


def parameter_groups(network: MaskRCNN, config: SegmentationTraining) -> list[dict[str, Any]]:
    """Freezes the first blocks; the rest of the backbone learns at a fraction of the rate of what is new."""
    body = network.backbone.body
    body.conv_stem.requires_grad_(False)
    body.blocks[: config.frozen_blocks].requires_grad_(False)
    old = {id(p) for p in body.parameters()}
    new = [p for p in network.parameters() if id(p) not in old]
    return [
        {"params": [p for p in body.parameters() if p.requires_grad], "share": config.backbone_rate},
        {"params": new, "share": 1.0},
    ]


class Losses:
    """Running means of the parts of the loss since the last epoch."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.n = 0

    def add(self, parts: dict[str, torch.Tensor]) -> None:
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        self.n += 1

    def means(self, clear: bool = False) -> dict[str, float]:
        means = {name: value / max(self.n, 1) for name, value in self.sums.items()}
        if clear:
            self.sums, self.n = {}, 0
        return means


def progress_line(step: int, first: tuple[int, float], elapsed: float, progress: float, losses: Losses) -> str:
    """One line: step, parts of the loss, steps a second since the (re)start, minutes left."""
    rate = (step - first[0]) / max(elapsed - first[1], 1e-9)
    left = elapsed / 60 * (1 / max(progress, 1e-9) - 1)
    parts = " ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in losses.means().items())
    return f"step {step}  {parts}  {rate:.2f} steps/s  {left:.1f} min left"
