"""Training of the U-Net on crops with ring masks: training/pattern.py runs `loop` in Ray Train's workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import Dataset

from pusa import weights
from pusa.errors import UserError
from pusa.pattern import data
from pusa.pattern.data import Example, augment
from pusa.pattern.evaluate import measure
from pusa.pattern.extract import PatternConfig, PatternExtractor
from pusa.pattern.unet import UNet
from pusa.steps import Report, StepConfig, Task, run


class PatternTraining(StepConfig):
    """Settings of a training run. An archive is a folder as `pusa synth` writes it, or one of your own: `data.read`."""

    archives: tuple[Path, ...]  # one or several
    validation: tuple[Path, ...] = ()  # likewise, held out; empty: no validation
    validation_crops: int = 60  # at most so many, evenly spread
    max_crops: int = 2000  # kept in memory, 0.5 MB each, evenly spread
    out: Path = Path("pattern.safetensors")
    # Channels of the first level: 8 = 0.5 M parameters; 12 = 1.1 M, twice as slow; 64 = the public network.
    base: int = 8
    steps: int = Field(default=6000, gt=0)
    batch: int = Field(default=8, gt=0)
    window: int = 256  # px, side of the square that a step sees of a crop; a multiple of 16
    blank: float = 0.1  # share of examples without rings: grounds in the outline of a seal; 0 = none
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    extraction: PatternConfig = PatternConfig()  # how the network's input is made, and its output judged


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


class PatternTask(Task[PatternTraining]):
    """The U-Net learns crops with ring masks."""

    def __init__(self, config: PatternTraining) -> None:
        super().__init__(config)
        size = config.extraction.input_size
        share = -(-config.max_crops // max(len(config.archives), 1))
        self.examples = [e for a in config.archives for e in data.read(a, size, config.blank, share, config.seed)]
        if not self.examples:
            raise UserError(
                "There is no archive to learn from. Give folders written by `pusa synth`, or of crops and rings."
            )
        each = -(-config.validation_crops // max(len(config.validation), 1))
        self.held_out = [e for a in config.validation for e in data.read(a, size, 0, each, config.seed)]
        torch.manual_seed(config.seed)
        self.base = config.base
        if config.start is not None:
            stored = weights.load(config.start, "pattern")
            self.base = stored.settings["network"]["base"]
        self.network = UNet(self.base)
        if config.start is not None:
            weights.load_into(self.network, stored)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.modules = nn.ModuleDict({"network": self.network})
        self.optimizer = torch.optim.AdamW(self.network.parameters(), weight_decay=config.weight_decay)

    def data(self) -> Dataset:
        return TrainingWindows(self.examples, self.config)

    def loss(self, batch: Any, progress: float) -> dict[str, Tensor]:
        grey, rings = batch
        x = grey.to(self.device).contiguous(memory_format=torch.channels_last)
        with self.autocast():
            logits = self.network(x)
        return {"loss": loss_of(logits.float(), rings.to(self.device))}

    def validate(self) -> dict[str, float]:
        if not self.held_out:
            return {}
        judged = self.config.extraction.model_copy(update={"device": self.config.device})
        return measure(PatternExtractor(judged, network=self.network.eval()), self.held_out)

    def save(self) -> None:
        weights.save(self.config.out, "pattern", {"network": {"base": self.base}}, self.network.state_dict())


def loop(config: PatternTraining, report: Report, resume: Path | None = None) -> Path:
    """Trains the U-Net: see `steps.run`. Raises UserError for unusable data."""
    return run(PatternTask(config), report, resume)
