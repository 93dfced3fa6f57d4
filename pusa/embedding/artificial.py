"""Artificial patches with labels, made by AGE's generator: what the paper trains its patch network on.

A class is one point on the sphere; its members are what the generator makes of points close by, turned, shifted,
scaled, with thicker and thinner lines, gaps and noise (`coats.view`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from pusa import weights
from pusa.config import Config
from pusa.embedding import coats
from pusa.embedding.age import Generator, on_sphere
from pusa.errors import UserError
from pusa.pattern import patches

WHITE = (0.1, 0.6)  # share of white pixels that a class may have: less is dropped by the extraction, more is a blot


class ArtificialConfig(Config):
    """Settings of a set. The defaults are the paper's."""

    age: str  # weights of the generator
    classes: int = 100
    patches: int = 10_000  # in all, as many of each class
    neighbourhood: float = 0.15  # length of the step, in units of the sphere, from a class to its members
    seed: int = 0


def make(config: ArtificialConfig, out: Path) -> None:
    """Writes the set; the same config and weights give the same. Raises UserError where the generator has failed."""
    members = config.patches // max(config.classes, 1)
    if config.classes < 2 or members < 2:
        raise UserError(
            f"{config.patches} patches in {config.classes} classes: expected two classes or more, of two or more each."
        )
    stored = weights.load(config.age, "age")
    generator = Generator(**stored.settings["network"])
    own = {k.removeprefix("generator."): t for k, t in stored.tensors.items() if k.startswith("generator.")}
    weights.load_into(generator, weights.Weights(stored.name, stored.kind, stored.digest, stored.settings, own))
    centres = _centres(generator.eval(), config)
    found = np.concatenate([_members(generator, z, members, config, c) for c, z in enumerate(centres)])
    settings = config.model_dump() | {"age": stored.digest}
    tensors = {
        "patches": torch.from_numpy(np.packbits(found.reshape(len(found), -1), axis=1)),
        "labels": torch.arange(config.classes).repeat_interleave(members),
    }
    weights.save(out, "patches", settings, tensors)


@torch.inference_mode()
def _centres(generator: Generator, config: ArtificialConfig) -> torch.Tensor:
    """One point (latent,) a class, where the generator makes lines."""
    source = torch.Generator().manual_seed(config.seed)
    kept: list[torch.Tensor] = []
    for _ in range(20):
        z = on_sphere(2 * config.classes, generator.layers[0].in_channels, source)  # type: ignore[arg-type]
        white = (generator(z)[:, 0] > 0).float().mean(dim=(1, 2))
        kept += list(z[(white >= WHITE[0]) & (white <= WHITE[1])])
        if len(kept) >= config.classes:
            return torch.stack(kept[: config.classes])
    raise UserError(f"{config.age} makes hardly any patch with lines: train it for longer.")


@torch.inference_mode()
def _members(generator: Generator, z: torch.Tensor, n: int, config: ArtificialConfig, c: int) -> np.ndarray:
    source = torch.Generator().manual_seed(config.seed * 1_000_003 + c)
    near = F.normalize(z + config.neighbourhood * on_sphere(n, len(z), source), dim=1)
    rng = np.random.default_rng((config.seed, c))
    side = round(patches.SIZE * coats.OVERSAMPLING)
    found = []
    for picture in generator(near)[:, 0].numpy():
        large = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
        lines = (large > rng.uniform(-0.4, 0.4)).astype(np.uint8) * 255  # thicker or thinner
        around = np.pad(lines, side // 2, mode="reflect")  # turning and shifting show what lies beyond
        found.append(coats.view(around, np.full(2, side / 2 + side // 2), 1 / coats.OVERSAMPLING, rng.random(), rng))
    return np.stack(found)


@dataclass(frozen=True)
class ArtificialPlaces:
    """A set as a source of classes: patches (n, 64, 64) bool, and of each class the numbers of its patches."""

    patches: np.ndarray
    members: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.members)

    def member(self, c: int, turn: int, rng: np.random.Generator, difficulty: float = 1.0) -> np.ndarray:
        """One member of class c, at each turn the next: (64, 64) bool. With `difficulty` it has gaps and blobs."""
        patch = self.patches[self.members[c][turn % len(self.members[c])]]
        return coats.disturb(patch, rng) if rng.random() < difficulty else patch


def read(path: Path) -> ArtificialPlaces:
    """Reads a set. Raises UserError where it is not whole, or cannot be learnt from."""
    stored = weights.load(str(path), "patches")
    bits = stored.tensors["patches"].numpy()
    labels = stored.tensors["labels"].numpy()
    if len(bits) != len(labels):
        raise UserError(f"{path} has {len(bits)} patches and {len(labels)} labels. Make it again.")
    every = np.unpackbits(bits, axis=1).reshape(-1, patches.SIZE, patches.SIZE).astype(bool)
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    if len(members) < 2 or min(map(len, members)) < 2:
        raise UserError(f"{path}: expected two classes or more, of two patches or more each.")
    if (every.reshape(len(every), -1).std(axis=1) == 0).any():
        raise UserError(f"{path} has patches that are all black or all white. Make it with AGE weights trained longer.")
    return ArtificialPlaces(every, members)
