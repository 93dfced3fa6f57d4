"""Training of the detector from COCO files, without Ray; training/segmentation.py runs `loop` in Ray's workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import Dataset

from pusa import metrics, weights
from pusa.errors import UserError
from pusa.segmentation.data import LabelledPhoto, TrainingPhotos, read_coco
from pusa.segmentation.mask_rcnn import MaskRCNN, SegmentationConfig, Segmenter, build
from pusa.steps import Report, StepConfig, Task, run


class SegmentationTraining(StepConfig):
    """Settings of a training run. Sizes are in pixels."""

    coco: tuple[tuple[Path, Path], ...]  # (COCO file, folder of its photos), one or several
    validation: tuple[tuple[Path, Path], ...] = ()  # likewise; the epoch with the best mask mAP is kept; empty: none
    validation_photos: int = 60  # the first so many, evenly spread: a photo takes a third of a second
    out: Path = Path("segmentation.safetensors")
    start: str = "imagenet"  # or weights to fine-tune, such as starter/segmentation: their architecture is kept
    network: dict[str, Any] = Field({"architecture": "lite"})  # see mask_rcnn.build
    steps: int = Field(2000, gt=0)
    batch: int = Field(4, gt=0)
    height: int = 384  # photos are scaled and cut to at most this ...
    width: int = 512
    learning_rate: float = 4e-4
    backbone_rate: float = 0.3  # the backbone's learning rate as a fraction; its ImageNet features are good already
    weight_decay: float = 0.01
    warm_up: float = 0.05
    frozen_blocks: int = 5  # of the backbone's 16, and its stem: they keep their weights; 5 are those up to stride 8


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


class SegmentationTask(Task[SegmentationTraining]):
    """Mask R-CNN learns photos with masks."""

    best = "mask_map"

    def __init__(self, config: SegmentationTraining) -> None:
        super().__init__(config)
        self.labelled = read_all(config.coco)
        if not any(p.masks for p in self.labelled):
            raise UserError(f"There is no animal to learn from in {', '.join(str(file) for file, _ in config.coco)}.")
        self.held_out = spread(read_all(config.validation), config.validation_photos)
        torch.manual_seed(config.seed)
        self.network, self.settings = start_network(config)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.modules = nn.ModuleDict({"network": self.network})
        self.optimizer = torch.optim.AdamW(parameter_groups(self.network, config), weight_decay=config.weight_decay)

    def data(self) -> Dataset:
        return TrainingPhotos(self.labelled, self.config.height, self.config.width, self.config.seed)

    def collate(self, items: list[Any]) -> Any:
        return items

    def loss(self, batch: Any, progress: float) -> dict[str, Tensor]:
        images = [image.to(self.device) for image, _ in batch]
        return self.network(images, [{k: v.to(self.device) for k, v in target.items()} for _, target in batch])

    def validate(self) -> dict[str, float]:
        if not self.held_out:
            return {}
        segmenter = Segmenter(SegmentationConfig(device=self.config.device), network=self.network)
        return evaluate(segmenter, self.held_out)

    def save(self) -> None:
        weights.save(self.config.out, "segmentation", self.settings, self.network.state_dict())


def loop(config: SegmentationTraining, report: Report, resume: Path | None = None) -> Path:
    """Trains the detector: see `steps.run`. Raises UserError for unusable data."""
    return run(SegmentationTask(config), report, resume)


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
