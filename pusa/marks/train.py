"""Training of the network that describes marks: a class is a place on an animal, its members two photos of it.

By contrast (NT-Xent) with all other marks of a batch, so a batch has to be large.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import Dataset

from pusa import truth, weights
from pusa.embedding.train import Together, TrainingPatches, nt_xent, retrieval
from pusa.errors import UserError
from pusa.gallery.geometry import unit
from pusa.marks import named, places
from pusa.marks.describe import MarkDescriber
from pusa.marks.network import MarkNetwork
from pusa.records import Run
from pusa.steps import Report, StepConfig, Task, run


class MarkTraining(StepConfig):
    """Settings of a training run."""

    seen: tuple[tuple[Path, Path], ...] = ()  # processed synthetic archives: folder of the run, folder of the archive
    named: tuple[tuple[Path, Path], ...] = ()  # one's own animals: folder of the run, file of names
    validation: tuple[tuple[Path, Path], ...] = ()  # as `seen`, held out: are marks found again?
    validation_pairs: int = Field(default=4000, gt=0)  # of these at most so many of each
    out: Path = Path("marks.safetensors")
    network: dict[str, Any] = Field(default={"width": 16, "span": 20.0, "upright": True})  # see MarkNetwork
    steps: int = Field(default=4000, gt=0)
    epoch_steps: int = Field(default=400, gt=0)
    batch: int = Field(default=1024, gt=1)  # marks, two of a place
    temperature: float = 0.07  # of NT-Xent
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4


# A network, taught one's own animals.
OWN = MarkTraining(start="starter/marks", steps=800, epoch_steps=200, batch=512, learning_rate=1e-3)


class MarkTask(Task[MarkTraining]):
    """The network learns which marks are of one place."""

    def __init__(self, config: MarkTraining) -> None:
        super().__init__(config)
        self.best = "map" if config.validation else None
        torch.manual_seed(config.seed)
        self.settings = config.network
        if config.start is not None:
            stored = weights.load(config.start, "marks")
            self.settings = stored.settings["network"]
        self.network = MarkNetwork(**self.settings)
        if config.start is not None:
            weights.load_into(self.network, stored)
        sources = [places.read(Run(str(run)), archive, self.network) for run, archive in config.seen]
        sources += [
            named.read(Run(str(run)), truth.instance_names(Run(str(run)), str(file)), self.network, config.start)
            for run, file in config.named
        ]
        if not sources:
            raise UserError(
                "There is nothing to learn from: give a run and its synthetic archive as `seen`, or a run and the "
                "names of its animals as `named`."
            )
        sizes = np.array([len(source) for source in sources], float)
        self.places = Together(sources, list(sizes / sizes.sum()))
        self.held_out = [
            pairs(Run(str(run)), archive, self.network, config.validation_pairs) for run, archive in config.validation
        ]
        self.modules = nn.ModuleDict({"network": self.network})
        self.optimizer = torch.optim.AdamW(self.modules.parameters(), weight_decay=config.weight_decay)

    def data(self) -> Dataset:
        return TrainingPatches(self.places, self.config.seed)

    def loss(self, batch: Any, progress: float) -> dict[str, Tensor]:
        found, labels = batch
        with self.autocast():
            vectors = self.network(found.to(self.device))
        return {"loss": nt_xent(vectors.float(), labels.to(self.device), self.config.temperature)}

    def validate(self) -> dict[str, float]:
        describe = MarkDescriber(device=self.config.device, network=self.network)
        figures: dict[str, float] = {}
        for k, (first, second) in enumerate(self.held_out):
            again = retrieval(*(unit(describe(members)) for members in (first, second)))
            figures |= {f"recall@1{k or ''}": again["recall@1"], f"map{k or ''}": again["mAP"]}
        return figures

    def save(self) -> None:
        weights.save(self.config.out, "marks", {"network": self.settings}, self.network.state_dict())


def pairs(run: Run, archive: Path, network: MarkNetwork, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `limit` pairs of a run by chance, as found: surroundings (n, 32, 32) uint8 of the one and the other."""
    held_out, rng = places.read(run, archive, network), np.random.default_rng(0)
    chosen = rng.permutation(len(held_out))[:limit]
    first, second = (np.stack([held_out.member(c, turn, rng, 0) for c in chosen]) for turn in range(2))
    return first, second


def loop(config: MarkTraining, report: Report, resume: Path | None = None) -> Path:
    """Trains the network: see `steps.run`."""
    return run(MarkTask(config), report, resume)
