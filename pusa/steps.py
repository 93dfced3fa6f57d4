"""The frame of every training: steps, clock, learning rate, checkpoints, reports; alone, or as one of several workers.

A training is a `Task`: its networks, data and loss. `run` does the rest, the same for all of them. Steps are those of
one worker: of several, each does its own at the same time, with its own items, and their gradients are averaged into
one. Their number may change at any checkpoint; whatever it is, a training sees the same items.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pusa.config import Config, has_bfloat16
from pusa.errors import UserError
from pusa.schedule import learning_rate_factor

Report = Callable[[dict[str, Any], Path | None], None]


class StepConfig(Config):
    """What all trainings have in common. Each gives its own defaults."""

    out: Path  # the weights; the state to resume from lies in OUT.checkpoint/, the curves in OUT.curves.png
    start: str | None = None  # weights to fine-tune, such as starter/pattern; None: from scratch
    steps: int = Field(gt=0)  # of one worker; N workers do N at a time
    minutes: float | None = None  # ends after this time at the latest; the learning rate falls accordingly
    epoch_steps: int = Field(250, gt=0)  # report, validation and checkpoint after so many steps
    batch: int = Field(gt=0)  # items a worker and step
    learning_rate: float  # peak, AdamW
    warm_up: float = 0.03  # fraction of the run over which the learning rate rises
    weight_decay: float
    clip: float = 5.0  # largest norm of the gradient
    workers: int = 1  # processes that read and augment; 0 does it between the steps
    log_every: int = 20  # steps between progress lines; 0: none
    seed: int = 0
    device: str = "auto"
    # Convolutions in bfloat16 (weights stay float32): about 2x faster. None: where the device computes in it
    bfloat16: bool | None = None


C = TypeVar("C", bound=StepConfig)


class Task(ABC, Generic[C]):
    """A training: subclasses set `modules` and `optimizer` in __init__ and fill in the methods below.

    A group of the optimizer may have a `share`, the factor of its learning rate. `best` names the measure (larger is
    better) whose best epoch is kept; None keeps the last.
    """

    best: str | None = None
    modules: nn.ModuleDict
    optimizer: torch.optim.Optimizer

    def __init__(self, config: C) -> None:
        self.config = config
        name = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(name)

    def autocast(self) -> torch.autocast:
        """The context in which a network runs in training; losses are outside of it, in float32."""
        wanted = self.config.bfloat16
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device) if wanted is None else wanted
        )

    @abstractmethod
    def data(self) -> Dataset:
        """Items for ever; item p must follow from (seed, p) alone, so that a run can be resumed exactly."""

    def collate(self, items: list[Any]) -> Any:
        return torch.utils.data.default_collate(items)

    @abstractmethod
    def loss(self, batch: Any, progress: float) -> dict[str, Tensor]:
        """The parts of the loss of a batch; their sum is minimised. progress: of the run, 0..1."""

    def step(self, batch: Any, progress: float) -> dict[str, float]:
        """What is done with a batch; returns the parts of the loss."""
        return self.descend(self.loss(batch, progress), self.modules)

    def descend(self, parts: dict[str, Tensor], module: nn.Module) -> dict[str, float]:
        """One step of the optimizer down the sum of `parts`; only the parameters of `module` move."""
        self.optimizer.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        moving = list(module.parameters())
        for p in set(self.modules.parameters()) - set(moving):
            p.grad = None  # the optimizer passes over it
        average_gradients(moving)
        torch.nn.utils.clip_grad_norm_(moving, self.config.clip)
        self.optimizer.step()
        return {name: float(value.detach()) for name, value in parts.items()}

    def rate(self, progress: float) -> float:
        """What the peak learning rate is multiplied by."""
        return learning_rate_factor(progress, self.config.warm_up)

    def validate(self) -> dict[str, float]:
        """Measured after each epoch on held-out data; nothing where there is none."""
        return {}

    @abstractmethod
    def save(self) -> None:
        """Writes the weights."""


def run(task: Task[Any], report: Report, resume: Path | None = None) -> Path:
    """Trains, calls `report(metrics, checkpoint folder)` after every `epoch_steps`, and returns the file of weights.

    `resume`: a checkpoint folder of a run with the same settings; the run goes on as if it had never stopped (where it
    is measured in steps, not minutes, and has as many workers). Of several workers only the first one measures and
    writes; the others report nothing. Raises UserError where there is nothing to resume.
    """
    config, checkpoint = task.config, task.config.out.with_suffix(".checkpoint")
    first = rank() == 0
    task.modules.to(task.device)
    step, history = 0, []  # type: ignore[var-annotated]
    elapsed, best = 0.0, -float("inf")
    if resume is not None:
        state = restore(resume, task)
        step, elapsed, best = state["step"], state["elapsed"], state["best"]
        history = state["history"]
    clock = Clock(config, step, elapsed)
    order = order_of(step * config.batch, config.batch)
    batches = iter(DataLoader(task.data(), config.batch, sampler=order, num_workers=config.workers,  # type: ignore[arg-type]
                              collate_fn=task.collate))  # fmt: skip
    progress = agreed(clock.progress(step))
    while progress < 1 or not step:
        torch.manual_seed(config.seed + step)  # of dropout, and of what samples inside a network
        equalise(task.modules)
        task.modules.train()
        means = Means()
        for batch in batches:
            means.add(one_step(task, batch, progress))
            step += world()
            progress = agreed(clock.progress(step))
            if first and config.log_every and passed(step, config.log_every):
                print(f"step {step}  {means}  {clock.outlook(step)}", flush=True)
            if progress >= 1 or passed(step, config.epoch_steps):
                break
        if not first:
            report({}, None)
            continue
        measured: dict[str, Any] = {"step": step, "minutes": clock.elapsed() / 60} | means.means() | task.validate()
        history.append({k: float(v) for k, v in measured.items()})
        value = float(measured.get(task.best, step)) if task.best else float(step)
        if value > best:
            best = value
            task.save()
        store(checkpoint, task, step=step, elapsed=clock.elapsed(), best=best, history=history)
        draw_curves(history, config.out.with_suffix(".curves.png"))
        report(measured, checkpoint)
    return config.out


def one_step(task: Task[Any], batch: Any, progress: float) -> dict[str, float]:
    """Sets the learning rate and lets the task do its step."""
    for group in task.optimizer.param_groups:
        group["lr"] = task.config.learning_rate * group.get("share", 1.0) * task.rate(progress)
    return task.step(batch, progress)


def rank() -> int:
    """The number of this worker, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world() -> int:
    """How many workers share the training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def passed(step: int, every: int) -> bool:
    """Whether the last step of all workers reached or passed a multiple of `every`."""
    return step // every > (step - world()) // every


def agreed(progress: float) -> float:
    """The first worker's clock: all must stop at the same step."""
    if world() == 1:
        return progress
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    value = torch.tensor(progress, dtype=torch.float64, device=device)
    dist.broadcast(value, 0)
    return float(value)


@torch.no_grad()
def equalise(module: nn.Module) -> None:
    """Gives all workers the first one's values: of parameters that started apart, and of batch statistics."""
    if world() > 1:
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor, 0)


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replaces gradients by their mean over the workers; one message for all of them."""
    if world() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in trained])
    dist.all_reduce(flat)
    flat /= world()
    for p, part in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
        p.grad = part.view_as(p).clone()


def order_of(items: int, batch: int) -> Iterator[int]:
    """The items that this worker takes: of each step's `batch` x workers, beginning at `items`, its own share."""
    while True:
        start = items + rank() * batch
        yield from range(start, start + batch)
        items += batch * world()


def store(checkpoint: Path, task: Task[Any], **state: Any) -> None:
    """Writes checkpoint/state.pt, whole or not at all."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    state |= {"modules": task.modules.state_dict(), "optimizer": task.optimizer.state_dict()}
    torch.save(state, checkpoint / "state.tmp")
    (checkpoint / "state.tmp").replace(checkpoint / "state.pt")


def restore(checkpoint: Path, task: Task[Any]) -> dict[str, Any]:
    """Loads what `store` wrote into the task, and returns the rest. Raises UserError where there is nothing."""
    path = Path(checkpoint) / "state.pt"
    if not path.is_file():
        raise UserError(f"There is no training to resume in {checkpoint}: expected a file state.pt.")
    state = torch.load(path, map_location=task.device, weights_only=True)
    task.modules.load_state_dict(state.pop("modules"))
    task.optimizer.load_state_dict(state.pop("optimizer"))
    return state


class Means:
    """Running means of the parts of the loss."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, parts: dict[str, float]) -> None:
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: value / self.counts[name] for name, value in self.sums.items()}

    def __str__(self) -> str:
        return " ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in self.means().items())


class Clock:
    """How far a run is: by steps, or by minutes where these end it sooner. Goes on after a resume."""

    def __init__(self, config: StepConfig, step: int, elapsed: float) -> None:
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


def draw_curves(history: list[dict[str, float]], path: Path) -> None:
    """A picture of the measures over the steps, a panel each."""
    from matplotlib.figure import Figure

    names = [name for name in history[-1] if name not in ("step", "minutes")]
    figure = Figure(figsize=(9, 2.2 * -(-len(names) // 3)), layout="constrained")
    steps = [h["step"] for h in history]
    for k, name in enumerate(names):
        axes = figure.add_subplot(-(-len(names) // 3), 3, k + 1)
        axes.plot(steps, [h.get(name, np.nan) for h in history], marker=".")
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
    figure.savefig(path, dpi=110)
