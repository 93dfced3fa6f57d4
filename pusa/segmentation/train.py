"""Training of the detector from COCO files, without Ray; training/segmentation.py runs `loop` in Ray's workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import Dataset

from pusa import weights
from pusa.errors import UserError
from pusa.segmentation import detectron2
from pusa.segmentation.data import LabelledPhoto, TrainingPhotos, read_coco
from pusa.segmentation.evaluate import evaluate
from pusa.segmentation.lite import LiteMaskRCNN
from pusa.segmentation.mask_rcnn import Network, ResNetMaskRCNN, build, load
from pusa.segmentation.segmenter import SegmentationConfig, Segmenter
from pusa.steps import Report, StepConfig, Task, run

T = TypeVar("T")

MESSAGES = 20  # of what is left out of a COCO file, that are printed


class SegmentationTraining(StepConfig):
    """Settings of a training run. Sizes are in pixels. What is None follows from the architecture: see `RECIPES`."""

    coco: tuple[tuple[Path, Path], ...]  # (COCO file, folder of its photos), one or several
    validation: tuple[tuple[Path, Path], ...] = ()  # likewise; the epoch with the best mask mAP is kept; empty: none
    validation_photos: int = 60  # the first so many, evenly spread: a photo takes a third of a second
    out: Path = Path("segmentation.safetensors")
    # "imagenet", "scratch", or weights to go on from, whose architecture is kept: starter/segmentation, a file of
    # `pusa train`, a checkpoint of detectron2 (.pth, .pkl), or MSRA's R-50.pkl or R-101.pkl
    start: str = "imagenet"
    network: dict[str, Any] = Field({"architecture": "lite"})  # see mask_rcnn.build
    steps: int = Field(2000, gt=0)
    batch: int = Field(4, gt=0)
    height: int | None = None  # photos are scaled and cut to at most this ...
    width: int | None = None
    optimizer: Literal["adamw", "sgd"] | None = None  # sgd: momentum .9
    learning_rate: float | None = None  # type: ignore[assignment]
    constant: bool | None = None  # whether the learning rate stays after the warm-up, or falls by half a cosine
    backbone_rate: float | None = None  # the backbone's learning rate as a fraction: it knows its features already
    weight_decay: float | None = None  # type: ignore[assignment]
    warm_up: float = 0.05
    frozen: int | None = None  # stages of the backbone, from the stem on, that keep their weights


# The six as the paper fine-tunes them (learning rate .00025) with detectron2's defaults; `lite` as its starter weights.
# Height and width are those to which photos are scaled later (`sizes`): to a network that learnt on smaller ones,
# animals that fill a photo are larger than all it has seen, and their masks become blots.
RECIPES: dict[str, dict[str, Any]] = {
    "lite": {"height": 512, "width": 683, "optimizer": "adamw", "learning_rate": 4e-4, "constant": False,
             "backbone_rate": 0.3, "weight_decay": 0.01},
    "resnet": {"height": 800, "width": 1067, "optimizer": "sgd", "learning_rate": 2.5e-4, "constant": True,
               "backbone_rate": 1.0, "weight_decay": 1e-4},
}  # fmt: skip


def completed(config: SegmentationTraining, network: Network) -> SegmentationTraining:
    """The settings with those of the network's recipe where they are None."""
    recipe = RECIPES["lite" if isinstance(network, LiteMaskRCNN) else "resnet"] | {"frozen": network.frozen}
    return config.model_copy(update={key: v for key, v in recipe.items() if getattr(config, key) is None})


def read_all(sources: tuple[tuple[Path, Path], ...]) -> list[LabelledPhoto]:
    """The photos of several COCO files; says what was left out of them."""
    result = []
    for file, root in sources:
        labelled, left_out = read_coco(file, root)
        result += labelled
        for line in left_out[:MESSAGES]:
            print(f"left out: {line}", flush=True)
        if len(left_out) > MESSAGES:
            print(f"left out of {file}: {len(left_out) - MESSAGES} more", flush=True)
    return result


def spread(items: list[T], n: int) -> list[T]:
    """At most n items, evenly spread over the list."""
    n = min(n, len(items))
    return [items[i * len(items) // n] for i in range(n)]


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
        self.config = config = completed(config, self.network)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.modules = nn.ModuleDict({"network": self.network})
        groups = parameter_groups(self.network, config)
        assert config.learning_rate is not None
        if config.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(groups, config.learning_rate, 0.9, weight_decay=config.weight_decay or 0)
        else:
            self.optimizer = torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay or 0)

    def data(self) -> Dataset:
        height, width = self.config.height, self.config.width
        assert height is not None
        assert width is not None
        return TrainingPhotos(self.labelled, height, width, self.config.seed)

    def collate(self, items: list[Any]) -> Any:
        return items

    def loss(self, batch: Any, progress: float) -> dict[str, Tensor]:
        images = [image.to(self.device) for image, _ in batch]
        targets = [{k: v.to(self.device) for k, v in target.items()} for _, target in batch]
        with self.autocast():  # torchvision's and our losses are in float32 there
            return self.network(images, targets)

    def rate(self, progress: float) -> float:
        if self.config.constant:
            return min(max(progress, 1e-3) / self.config.warm_up, 1.0) if self.config.warm_up else 1.0
        return super().rate(progress)

    def validate(self) -> dict[str, float]:
        if not self.held_out:
            return {}
        segmenter = Segmenter(SegmentationConfig(device=self.config.device), network=self.network)
        return evaluate(segmenter, self.held_out)[0]

    def save(self) -> None:
        weights.save(self.config.out, "segmentation", self.settings, self.network.state_dict())


def loop(config: SegmentationTraining, report: Report, resume: Path | None = None) -> Path:
    """Trains the detector: see `steps.run`. Raises UserError for unusable data."""
    return run(SegmentationTask(config), report, resume)


def start_network(config: SegmentationTraining) -> tuple[Network, dict[str, Any]]:
    """The network to train and its settings: with an ImageNet backbone, from weights, or from nothing.

    Of weights for another number of classes all but the predictors is taken: training knows one class, the animal.
    """
    if config.start in ("imagenet", "scratch"):
        return build(config.network, pretrained=config.start == "imagenet"), config.network
    path = weights.find(config.start)
    if path.suffix in detectron2.SUFFIXES and (resnet := detectron2.read_resnet(path)):
        network = build(config.network)
        take_resnet(network, resnet, str(path))
        return network, config.network
    network, stored = load(config.start)
    if stored.settings.get("classes", 1) == 1:
        return network, stored.settings
    settings = stored.settings | {"classes": 1}
    network = build(settings)
    fitting = {k: v for k, v in network.state_dict().items() if v.shape == stored.tensors[k].shape}
    network.load_state_dict({k: stored.tensors[k] for k in fitting}, strict=False)
    print(f"{config.start} has {stored.settings['classes']} classes: its predictors are learnt anew", flush=True)
    return network, settings


def take_resnet(network: Network, resnet: dict[str, Tensor], source: str) -> None:
    """Copies ImageNet weights into the ResNet of a network: its backbone, and the res5 that C4 has in its heads."""
    if not isinstance(network, ResNetMaskRCNN):
        raise UserError(f"{source} is a ResNet: give `network: {{architecture: R_50_FPN}}` or another of its kind.")
    state = network.state_dict()
    homes = {name.removeprefix(p): name for p in ("backbone.bottom_up.", "backbone.", "roi_heads.") for name in state
             if name.startswith((f"{p}stem.", f"{p}res"))}  # fmt: skip
    missing = [n for n in homes if n not in resnet and not n.endswith(("running_mean", "running_var"))]
    foreign = [n for n in resnet if n not in homes or state[homes[n]].shape != resnet[n].shape]
    if missing or foreign:
        raise UserError(f"{source} is another ResNet: missing {missing[:3]}, not known {foreign[:3]}.")
    network.load_state_dict({homes[name]: tensor for name, tensor in resnet.items()}, strict=False)


def parameter_groups(network: Network, config: SegmentationTraining) -> list[dict[str, Any]]:
    """Freezes the first stages; the rest of the backbone learns at a fraction of the rate of what is new."""
    stages = network.stages()
    for stage in stages[: 0 if config.start == "scratch" else config.frozen]:
        stage.requires_grad_(False)
    old = {id(p) for stage in stages for p in stage.parameters()}
    known = [p for p in network.parameters() if p.requires_grad and id(p) in old]
    new = [p for p in network.parameters() if id(p) not in old]
    return [{"params": known, "share": config.backbone_rate}, {"params": new, "share": 1.0}]
