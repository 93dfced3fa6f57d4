"""Training of the U-Net on crops with ring masks: training/pattern.py runs `loop` in Ray Train's workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pusa import weights
from pusa.config import Config
from pusa.errors import UserError
from pusa.pattern import data
from pusa.pattern.data import Example, augment
from pusa.pattern.evaluate import measure
from pusa.pattern.extract import PatternConfig, PatternExtractor
from pusa.pattern.unet import UNet
from pusa.schedule import learning_rate_factor

Report = Callable[[dict[str, Any], Path | None], None]


class PatternTraining(Config):
    """Settings of a training run. An archive is a folder as `pusa synth` writes it, or one of your own: `data.read`."""

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


def loop(config: PatternTraining, report: Report, resume: Path | None = None) -> Path:
    """Trains, calls `report(metrics, checkpoint folder)` after every `epoch_steps`, and returns the file of weights.

    `resume`: a checkpoint folder of a run with the same settings; the run goes on as if it had never stopped (where it
    is measured in steps, not minutes). Raises UserError for unusable data.
    """
    size = config.extraction.input_size
    share = -(-config.max_crops // max(len(config.archives), 1))
    examples = [e for a in config.archives for e in data.read(a, size, config.blank, share, config.seed)]
    if not examples:
        raise UserError(
            "There is no archive to learn from. Give folders written by `pusa synth`, or of crops and rings."
        )
    each = -(-config.validation_crops // max(len(config.validation), 1))
    held_out = [e for a in config.validation for e in data.read(a, size, 0, each, config.seed)]

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
            measured |= measure(PatternExtractor(judged, network=network.eval()), held_out)
        checkpoint.mkdir(parents=True, exist_ok=True)
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "elapsed": elapsed}
        torch.save(state, checkpoint / "state.pt")
        weights.save(config.out, "pattern", {"network": {"base": base}}, network.state_dict())
        report(measured, checkpoint)
    return config.out
