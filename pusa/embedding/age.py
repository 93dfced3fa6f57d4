"""AGE, the adversarial generator and encoder of artificial patches (Ulyanov 2018; method: section 4).

The encoder maps patches to points on a sphere, the generator points to patches. There is no discriminator: the encoder
spreads real patches evenly over the sphere and fake ones unevenly, the generator wants its fakes spread evenly.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import Dataset

from pusa import records, weights
from pusa.embedding import coats
from pusa.embedding.embed import patches_of
from pusa.errors import UserError
from pusa.pattern import patches
from pusa.pattern.extract import PatternConfig
from pusa.records import Run
from pusa.steps import Report, StepConfig, Task, run


class AgeTraining(StepConfig):
    """Settings of a training run. `base=64, batch=64` with 1,320 patches is the paper's; on a CPU 32 is four times as
    fast."""

    runs: tuple[Path, ...] = ()  # whose patches are learnt; none: those of drawn coats
    patches: int = Field(20_000, gt=0)  # at most so many, by chance
    coats: int = Field(300, gt=0)  # drawn, where there is no run
    out: Path = Path("age.safetensors")
    base: int = 32  # channels at 32 x 32 px, doubled at each of three levels
    latent: int = 64  # dimensions of the sphere
    steps: int = Field(default=6000, gt=0)  # of the encoder
    generator_steps: int = 3  # for one of the encoder
    batch: int = Field(default=64, gt=1)  # the spread over the sphere is that of a batch
    learning_rate: float = 2e-4
    halvings: int = 4  # of the learning rate, evenly over the run
    weight_decay: float = 0.0
    clip: float = 1e3
    match_x: float = 10.0  # weight of real patch = generator(encoder(patch)), L1; 1.5x in the last fifth
    match_z: float = 1000.0  # weight of point = encoder(generator(point)), cosine
    validation_patches: int = 256  # held out, to measure how well patches are reproduced


class Generator(nn.Module):
    """(B, latent) points of length 1 -> (B, 1, 64, 64) in [-1, 1]; DCGAN (Radford 2016)."""

    def __init__(self, base: int, latent: int) -> None:
        super().__init__()
        widths = [8 * base, 4 * base, 2 * base, base]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, widths[0], 4, bias=False)]
        for a, b in zip(widths, [*widths[1:], 1], strict=True):
            layers += [nn.BatchNorm2d(a), nn.ReLU(inplace=True), nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False)]
        self.layers = nn.Sequential(*layers, nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z[:, :, None, None])


class Encoder(nn.Module):
    """(B, 1, 64, 64) in [-1, 1] -> (B, latent) points of length 1."""

    def __init__(self, base: int, latent: int) -> None:
        super().__init__()
        widths = [1, base, 2 * base, 4 * base, 8 * base]
        layers: list[nn.Module] = []
        for k, (a, b) in enumerate(itertools.pairwise(widths)):
            layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b) if k else nn.Identity(),
                       nn.LeakyReLU(0.2, inplace=True)]  # fmt: skip
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], latent, 4, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.layers(x).flatten(1), dim=1)


def on_sphere(n: int, latent: int, generator: torch.Generator | None = None) -> Tensor:
    """n points (n, latent), evenly distributed on the sphere."""
    return F.normalize(torch.randn(n, latent, generator=generator), dim=1)


def spread(z: Tensor) -> Tensor:
    """How far a batch of points (B, d) is from evenly spread: KL of its diagonal Gaussian to N(0, 1), mean over d.

    Coordinates of points on the sphere have a variance of 1/d: they are scaled by sqrt(d) first. 0 is even.
    """
    scaled = z * z.shape[1] ** 0.5
    mean, variance = scaled.mean(dim=0), scaled.var(dim=0, unbiased=False).clamp(min=1e-6)
    return (mean.square() + variance - variance.log() - 1).mean() / 2


class RealPatches(Dataset):
    """Patches for ever, each turn in another order: item p is fixed by (seed, p)."""

    def __init__(self, real: np.ndarray, seed: int) -> None:
        self.real, self.seed = real, seed

    def __getitem__(self, p: int) -> Tensor:
        turn, i = divmod(p, len(self.real))
        order = np.random.default_rng((self.seed, turn)).permutation(len(self.real))
        return signed(self.real[order[i]])


def signed(found: np.ndarray) -> Tensor:
    """Patches (..., 64, 64) bool as (..., 1, 64, 64) float32: -1 black, 1 white."""
    return torch.from_numpy(found).float()[..., None, :, :] * 2 - 1


def real_patches(config: AgeTraining) -> np.ndarray:
    """The patches (n, 64, 64) bool to learn. Raises UserError where there are fewer than two batches."""
    rng = np.random.default_rng(config.seed)
    if config.runs:
        children = [f"instances.list.element.{name}" for name in ("pattern", "patch_boxes", "crop_box")]
        found = [
            patches_of(instance)
            for folder in config.runs
            for batch in Run(str(folder)).batches("photos", children)
            for nested in records.instances(batch)
            for instance in nested
            if instance["pattern"] is not None and instance["patch_boxes"]
        ]
    else:
        places = coats.draw_places((config.seed, 5), config.coats, ("placed", "reaction"), 2, PatternConfig())
        found = [np.stack([places.member(c, turn, rng, 0.3) for c in range(len(places)) for turn in range(4)])]
    every = np.concatenate([np.zeros((0, patches.SIZE, patches.SIZE), bool), *found])
    if len(every) < 2 * config.batch:
        raise UserError(
            f"There are {len(every)} patches to learn from; expected {2 * config.batch} or more. "
            "Give runs with usable patterns."
        )
    return every[rng.permutation(len(every))[: config.patches + config.validation_patches]]


class AgeTask(Task[AgeTraining]):
    """Encoder and generator learn against each other."""

    def __init__(self, config: AgeTraining) -> None:
        super().__init__(config)
        every = real_patches(config)
        held_out = min(config.validation_patches, len(every) // 4)
        self.held_out, self.real = every[:held_out], every[held_out:]
        torch.manual_seed(config.seed)
        base, latent = config.base, config.latent
        if config.start is not None:
            stored = weights.load(config.start, "age")
            base, latent = stored.settings["network"]["base"], stored.settings["network"]["latent"]
        self.settings = {"base": base, "latent": latent}
        self.generator, self.encoder = Generator(base, latent), Encoder(base, latent)
        self.modules = nn.ModuleDict({"generator": self.generator, "encoder": self.encoder})
        if config.start is not None:
            weights.load_into(self.modules, stored)
        self.modules.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.modules.parameters(), betas=(0.5, 0.999))

    def data(self) -> Dataset:
        return RealPatches(self.real, self.config.seed)

    def rate(self, progress: float) -> float:
        return 0.5 ** int(progress * (self.config.halvings + 1))

    def loss(self, batch: Any, progress: float) -> dict[str, Tensor]:
        """The encoder's."""
        x = batch.to(self.device).contiguous(memory_format=torch.channels_last)
        with self.autocast():
            z = self.encoder(x)
            again = self.generator(z)
            fake = self.encoder(self.generator(self.points(len(x))).detach())
        match_x = self.config.match_x * (1.5 if progress >= 0.8 else 1.0)
        return {
            "loss_real": spread(z.float()),
            "loss_fake": -spread(fake.float()),
            "loss_match_x": match_x * (again.float() - x).abs().mean(),
        }

    def step(self, batch: Any, progress: float) -> dict[str, float]:
        parts = self.descend(self.loss(batch, progress), self.encoder)
        for _ in range(self.config.generator_steps):
            z = self.points(len(batch))
            with self.autocast():
                again = self.encoder(self.generator(z)).float()
            cosine = (z * again).sum(dim=1).mean()
            losses = {"loss_spread": spread(again), "loss_match_z": self.config.match_z * (1 - cosine)}
            parts |= self.descend(losses, self.generator)
        return parts

    def points(self, n: int) -> Tensor:
        return on_sphere(n, self.settings["latent"]).to(self.device)

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Error of reproduction: share of wrong pixels; white: share of white pixels of fakes less that of real ones.

        Draws the sheets OUT.samples.png, and OUT.reconstructions.png: held-out patches in odd columns, each
        reproduced to its right.
        """
        self.modules.eval()
        x = signed(self.held_out).to(self.device)
        again = self.generator(self.encoder(x)).cpu().numpy()[:, 0] > 0
        fakes = self.generator(on_sphere(96, self.settings["latent"], torch.Generator().manual_seed(0)).to(self.device))
        shown = fakes.cpu().numpy()[:, 0] > 0
        pairs = np.stack([self.held_out[:48], again[:48]], axis=1).reshape(-1, patches.SIZE, patches.SIZE)
        for name, found in (("samples", shown), ("reconstructions", pairs)):
            cv2.imwrite(str(self.config.out.with_suffix(f".{name}.png")), sheet(found))
        return {"error": float((again != self.held_out).mean()), "white": float(shown.mean() - self.real.mean())}

    def save(self) -> None:
        weights.save(self.config.out, "age", {"network": self.settings}, self.modules.state_dict())


def sheet(found: np.ndarray, columns: int = 12) -> np.ndarray:
    """Patches (n, 64, 64) bool side by side on grey, as a picture (H, W) uint8."""
    framed = np.pad(found.astype(np.uint8) * 255, ((0, -len(found) % columns), (2, 2), (2, 2)), constant_values=96)
    side = patches.SIZE + 4
    return framed.reshape(-1, columns, side, side).swapaxes(1, 2).reshape(-1, columns * side)


def loop(config: AgeTraining, report: Report, resume: Path | None = None) -> Path:
    """Trains AGE: see `steps.run`. Raises UserError for too few patches."""
    return run(AgeTask(config), report, resume)
