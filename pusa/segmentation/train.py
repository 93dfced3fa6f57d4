"""Training of the detector from COCO files, without Ray; training/segmentation.py runs `loop` in Ray's workers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch.utils.data import DataLoader

from pusa import metrics, weights
from pusa.config import Config, device_and_dtype
from pusa.errors import UserError
from pusa.schedule import learning_rate_factor
from pusa.segmentation.data import LabelledPhoto, TrainingPhotos, read_coco
from pusa.segmentation.mask_rcnn import MaskRCNN, SegmentationConfig, Segmenter, build

Report = Callable[[dict[str, Any], Path | None], None]


class SegmentationTraining(Config):
    """Settings of a training run. Sizes are in pixels."""

    coco: tuple[tuple[Path, Path], ...]  # (COCO file, folder of its photos), one or several
    validation: tuple[tuple[Path, Path], ...] = ()  # likewise; empty: no validation
    validation_photos: int = 60  # the first so many, evenly spread: a photo takes a third of a second
    out: Path = Path("segmentation.safetensors")  # the weights; the state to resume from lies in OUT.checkpoint/
    start: str = "imagenet"  # or weights to fine-tune, such as starter/segmentation: their architecture is kept
    network: dict[str, Any] = Field({"architecture": "lite"})  # see mask_rcnn.build
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
    frozen_blocks: int = 5  # of the backbone's 16, and its stem: they keep their weights; 5 are those up to stride 8
    workers: int = 1  # processes that read and augment photos; 0 does it between the steps
    log_every: int = 20  # steps between progress lines; 0: none
    seed: int = 0
    device: str = "auto"


def evaluate(segmenter: Segmenter, labelled: list[LabelledPhoto]) -> dict[str, float]:
    """Accuracy on photos with true masks at the segmenter's own score threshold: see `metrics.detection_metrics`."""
    found = [segmenter.segment([photo.read()], score_threshold=0.05)[0] for photo in labelled]
    return metrics.detection_metrics(found, [p.truth() for p in labelled], segmenter.config.score_threshold)


def read_all(sources: tuple[tuple[Path, Path], ...]) -> list[LabelledPhoto]:
    """The photos of several COCO files."""
    return [photo for file, root in sources for photo in read_coco(file, root)]


def spread(labelled: list[LabelledPhoto], n: int) -> list[LabelledPhoto]:
    """At most n photos, evenly spread over the list."""
    n = min(n, len(labelled))
    return [labelled[i * len(labelled) // n] for i in range(n)]


def loop(config: SegmentationTraining, report: Report, resume: Path | None = None) -> Path:
    """Trains, calls `report(metrics, checkpoint folder)` after every `epoch_steps`, and returns the file of weights.

    `resume`: a checkpoint folder of a run with the same settings; the run goes on as if it had never stopped (where it
    is measured in steps, not minutes). Raises UserError for unusable data.
    """
    labelled = read_all(config.coco)
    if not any(p.masks for p in labelled):
        raise UserError(f"There is no animal to learn from in {', '.join(str(file) for file, _ in config.coco)}.")
    held_out = spread(read_all(config.validation), config.validation_photos)

    torch.manual_seed(config.seed)
    device, _ = device_and_dtype(config.device)
    network, settings = start_network(config)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(parameter_groups(network, config), weight_decay=config.weight_decay)
    step, elapsed = 0, 0.0
    if resume is not None:
        step, elapsed = restore(resume, network, optimizer)

    data = TrainingPhotos(labelled, config.height, config.width, config.seed)
    order = range(step * config.batch, config.steps * config.batch)
    batches = iter(DataLoader(data, config.batch, sampler=order, num_workers=config.workers, collate_fn=list))
    clock = Clock(config, step, elapsed)
    checkpoint = config.out.with_suffix(".checkpoint")
    while clock.progress(step) < 1:
        # The samplers of anchors and proposals draw from torch's global generator.
        torch.manual_seed(config.seed + step)
        network.train()
        losses = Losses()
        for batch in itertools.islice(batches, config.epoch_steps - step % config.epoch_steps):
            factor = learning_rate_factor(clock.progress(step), config.warm_up)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * group["share"] * factor
            losses.add(train_step(network, optimizer, batch, device))
            step += 1
            if config.log_every and step % config.log_every == 0:
                print(f"step {step}  {losses}  {clock.outlook(step)}", flush=True)
            if clock.progress(step) >= 1:
                break
        measured: dict[str, Any] = {"step": step, "minutes": clock.elapsed() / 60} | losses.means()
        if held_out:
            segmenter = Segmenter(SegmentationConfig(device=config.device), network=network)
            measured |= evaluate(segmenter, held_out)
        store(checkpoint, network, optimizer, step, clock.elapsed())
        weights.save(config.out, "segmentation", settings, network.state_dict())
        report(measured, checkpoint)
    return config.out


def train_step(
    network: MaskRCNN,
    optimizer: torch.optim.Optimizer,
    batch: list[tuple[torch.Tensor, dict[str, torch.Tensor]]],
    device: torch.device,
) -> dict[str, float]:
    """One step on a batch of (image, target), as TrainingPhotos gives them; returns the parts of the loss."""
    images = [image.to(device) for image, _ in batch]
    targets = [{k: v.to(device) for k, v in target.items()} for _, target in batch]
    parts = network(images, targets)
    optimizer.zero_grad()
    sum(parts.values()).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return {name: float(value.detach()) for name, value in parts.items()}


def store(checkpoint: Path, network: MaskRCNN, optimizer: torch.optim.Optimizer, step: int, elapsed: float) -> None:
    """Writes checkpoint/state.pt, whole or not at all."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "elapsed": elapsed}
    torch.save(state, checkpoint / "state.tmp")
    (checkpoint / "state.tmp").replace(checkpoint / "state.pt")


def restore(checkpoint: Path, network: MaskRCNN, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Loads what `store` wrote; returns the step and the seconds elapsed. Raises UserError where there is nothing."""
    path = Path(checkpoint) / "state.pt"
    if not path.is_file():
        raise UserError(f"There is no training to resume in {checkpoint}: expected a file state.pt.")
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["elapsed"]


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
    """Running means of the parts of the loss."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.n = 0

    def add(self, parts: dict[str, float]) -> None:
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in parts.items()}
        self.n += 1

    def means(self) -> dict[str, float]:
        return {name: value / self.n for name, value in self.sums.items()}

    def __str__(self) -> str:
        return " ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in self.means().items())


class Clock:
    """How far a run is: by steps, or by minutes where these end it sooner. Goes on after a resume."""

    def __init__(self, config: SegmentationTraining, step: int, elapsed: float) -> None:
        self.steps, self.minutes, self.first = config.steps, config.minutes, (step, elapsed)
        self.began = time.monotonic() - elapsed

    def elapsed(self) -> float:
        """Seconds of training and validation, with those before a resume."""
        return time.monotonic() - self.began

    def progress(self, step: int) -> float:
        """0 at the start; the run ends at 1."""
        return max(step / self.steps, self.elapsed() / 60 / self.minutes if self.minutes else 0.0)

    def outlook(self, step: int) -> str:
        """Steps a second since the start or resume, and the minutes left."""
        elapsed = self.elapsed()
        rate = (step - self.first[0]) / max(elapsed - self.first[1], 1e-9)
        left = (self.steps - step) / max(rate, 1e-9) / 60
        if self.minutes:
            left = min(left, self.minutes - elapsed / 60)
        return f"{rate:.2f} steps/s  {max(left, 0):.1f} min left"
