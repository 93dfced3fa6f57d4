"""Tiles of ground that wrap around: cobbles, layered rock, ice floes, mud, snow, a reed bank, open water."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pusa.synthetic.renderer_b.fields import blurred, cells, f32, smooth, spectral, warp
from pusa.synthetic.renderer_b.light import Light

TILE = 1024  # pixels of a side


@dataclass(frozen=True)
class Ground:
    """kind: name of the ground. albedo: float32 TILE x TILE x 3, reflectance. height: float32, relief in tile pixels.

    low: float32, how much a place tends to lie under water, about -1..1. shore: how much water there is, -3 = none,
    3 = water all over.
    """

    kind: str
    albedo: np.ndarray
    height: np.ndarray
    low: np.ndarray
    shore: float

    def shaded(self, light: Light) -> np.ndarray:
        """Light that the tile sends up: float32 TILE x TILE x 3, with hollows and the shadows of its relief."""
        h = self.height
        slope_x = 0.5 * (np.roll(h, -1, 1) - np.roll(h, 1, 1))
        slope_y = 0.5 * (np.roll(h, -1, 0) - np.roll(h, 1, 0))
        normal = np.stack([-slope_x, np.ones_like(h), -slope_y], -1)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        hollow = np.clip(1 + (h - blurred(h, 7)) / 14, 0.45, 1.15)
        lit = np.ones_like(h)
        east, up, north = light.toward
        for step in (3, 7, 14):  # a place is dark where the relief towards the sun rises above the line to it
            ahead = np.roll(h, (-round(step * north), -round(step * east)), (0, 1))
            lit *= smooth(ahead - h - step * up, 1.5, 0.0)
        return f32(self.albedo * light.irradiance(normal, lit) * hollow[..., None])


def make_ground(rng: np.random.Generator, unit: float) -> Ground:
    """One kind of ground at random. unit: tile pixels of one body length."""
    kind = str(rng.choice(list(KINDS)))
    return KINDS[kind](rng, unit)


def _paint(value: np.ndarray, *colours: tuple[float, float, float]) -> np.ndarray:
    """Colours along 0..1, evenly apart: ... x 3."""
    at = np.linspace(0, 1, len(colours))
    out = np.empty((*value.shape, 3), np.float32)
    for k in range(3):
        out[..., k] = np.interp(value, at, [c[k] for c in colours])
    return out


def _noise(rng: np.random.Generator, low: float, high: float, stretch: float = 1.0) -> np.ndarray:
    return spectral(rng, (TILE, TILE), low, high, stretch)


def _stones(rng: np.random.Generator, across: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A layer of stones: height in pixels, a random number 0..1 of each stone, and where there is a stone, 0..1."""
    label, edge = cells(rng, TILE, across)
    bend = across * 0.07
    dx, dy = bend * _noise(rng, across * 0.8, across * 4), bend * _noise(rng, across * 0.8, across * 4)
    edge = blurred(warp(edge, dx, dy), 0.09 * across) - 0.07 * across  # round corners, gaps between the stones
    y, x = np.indices((TILE, TILE))
    places = np.floor(y + dy).astype(int) % TILE, np.floor(x + dx).astype(int) % TILE
    grey = rng.random(int(label.max()) + 1)[label[places]]
    rise = (0.3 + 0.5 * rng.random(int(label.max()) + 1))[label[places]]
    dome = np.sqrt(1 - np.square(1 - np.clip(edge / (0.4 * across), 0, 1)))
    return f32(dome * rise * across * 0.5), grey, smooth(edge, -0.01 * across, 0.05 * across)


def _cobbles(rng: np.random.Generator, unit: float) -> Ground:
    size = unit * rng.uniform(0.14, 0.42)
    height, grey, there = _stones(rng, size)
    small, small_grey, small_there = _stones(rng, max(size * 0.3, 7))
    big = there * (np.sin(grey * 91) > rng.uniform(-1.1, 0.0))  # some of the large stones are missing
    height = np.maximum(height * big, 0.6 * small)
    value = np.where(big > 0.5, grey, 0.25 + 0.5 * small_grey) + 0.09 * _noise(rng, 2, 40) + 0.02 * _noise(rng, 1.5, 4)
    warm = rng.uniform(0.0, 0.06)
    albedo = _paint(value, (0.09, 0.09, 0.085), (0.24 + warm, 0.22, 0.2), (0.3 + warm, 0.27, 0.24), (0.38, 0.36, 0.34))
    albedo *= (0.4 + 0.6 * np.where(big > 0.5, there, small_there))[..., None]  # no light between the stones
    return Ground("cobbles", albedo, height + 0.35 * _noise(rng, 3, 16), 0.5 * _noise(rng, 120, 500), _shore(rng))


def _rock(rng: np.random.Generator, unit: float) -> Ground:
    layers = 0.6 * _noise(rng, 14, 0.4 * unit, rng.uniform(2.5, 6)) + 0.9 * _noise(rng, 40, 400)
    layers = warp(layers, np.zeros_like(layers), 0.05 * unit * _noise(rng, 300, 900))  # folds
    steps = np.floor(layers * 2.2) + smooth(layers * 2.2 % 1, 0.0, 0.3)
    _, edge = cells(rng, TILE, unit * rng.uniform(0.5, 1.2))
    bend = 0.04 * unit
    crack = smooth(warp(edge, bend * _noise(rng, 10, 160), bend * _noise(rng, 10, 160)), 3.5, 0.5)
    grain = _noise(rng, 1.5, 6)
    height = 0.014 * unit * steps + 0.008 * unit * _noise(rng, 5, 60) - 5 * crack + 0.3 * grain
    lichen = smooth(_noise(rng, 4, 50) + 0.6 * _noise(rng, 90, 300), 1.2, 1.5)[..., None]
    value = 0.5 + 0.1 * layers + 0.05 * grain + 0.1 * _noise(rng, 12, 90)
    base = [(0.12, 0.11, 0.11), (0.27, 0.235, 0.215), (0.38, 0.34, 0.31)]
    pink = np.array([rng.uniform(1.0, 1.2), 1, 1])
    albedo = _paint(value, *base) * pink * (1 - 0.5 * crack[..., None])
    albedo = albedo * (1 - 0.6 * lichen) + 0.6 * lichen * np.array([0.36, 0.36, 0.25])
    return Ground("rock", f32(albedo), height, 0.4 * _noise(rng, 150, 500), _shore(rng))


def _ice(rng: np.random.Generator, unit: float) -> Ground:
    label, edge = cells(rng, TILE, unit * rng.uniform(1.4, 2.6))
    bend = 0.035 * unit
    edge = warp(edge, bend * _noise(rng, 90, 400), bend * _noise(rng, 90, 400)) / unit
    edge = edge + 0.012 * _noise(rng, 6, 60)
    lead = rng.uniform(0.02, 0.12)
    old = 0.5 + 0.25 * _noise(rng, 15, 250) + 0.12 * _noise(rng, 2, 12) + 0.2 * (np.sin(label * 7.0) + 1)
    albedo = _paint(old, (0.42, 0.5, 0.54), (0.66, 0.7, 0.72), (0.82, 0.83, 0.83))
    height = 0.04 * unit * smooth(edge, 0, 0.06) + 0.006 * unit * _noise(rng, 60, 300) + 0.12 * _noise(rng, 3, 12)
    return Ground("ice", albedo, height, f32(8 * (lead - edge)), -0.45)


def _mud(rng: np.random.Generator, unit: float) -> Ground:
    count = max(round(TILE / (rng.uniform(0.04, 0.09) * unit)), 1)  # whole ripples, or the tile shows its border
    ripple = np.sin(np.linspace(0, 2 * np.pi * count, TILE, endpoint=False)[:, None] + 5 * _noise(rng, 150, 700))
    calm = smooth(_noise(rng, 80, 400), -0.5, 0.8)
    height = 0.006 * unit * ripple * calm + 0.01 * unit * _noise(rng, 40, 250) + 0.3 * _noise(rng, 2, 10)
    value = 0.5 + 0.2 * _noise(rng, 20, 250) + 0.08 * _noise(rng, 1.5, 5)
    sandy = rng.random()
    top = (0.3 + 0.16 * sandy, 0.26 + 0.13 * sandy, 0.2 + 0.09 * sandy)
    albedo = _paint(value, (0.11, 0.095, 0.075), top)
    return Ground("mud", albedo, height, 0.8 * _noise(rng, 60, 400), _shore(rng))


def _snow(rng: np.random.Generator, unit: float) -> Ground:
    drift = _noise(rng, 50, 400, rng.uniform(1, 1.8))
    height = 0.0055 * unit * drift + 0.12 * _noise(rng, 2, 10)
    dirt = smooth(_noise(rng, 8, 140), 1.0, 2.4)
    albedo = _paint(0.75 + 0.1 * _noise(rng, 30, 250) - 0.7 * dirt, (0.5, 0.5, 0.47), (0.84, 0.85, 0.86))
    return Ground("snow", albedo, height, 0.3 * _noise(rng, 150, 500), -2.0)


def _bank(rng: np.random.Generator, unit: float) -> Ground:
    litter = _noise(rng, 2, 14, 0.2) * 0.6 + _noise(rng, 2, 14, 5) * 0.6
    value = 0.45 + 0.2 * litter + 0.2 * _noise(rng, 40, 300)
    albedo = _paint(value, (0.07, 0.065, 0.045), (0.22, 0.2, 0.12), (0.42, 0.37, 0.24))
    green = smooth(_noise(rng, 30, 200), 0.4, 1.4)[..., None] * 0.5
    albedo = albedo * (1 - green) + green * albedo * np.array([0.75, 1.15, 0.6])
    return Ground(
        "bank", f32(albedo), 1.4 * litter + 0.01 * unit * _noise(rng, 20, 200), 0.5 * _noise(rng, 90, 500), _shore(rng)
    )


def _lake(rng: np.random.Generator, unit: float) -> Ground:
    stones = _cobbles(rng, unit)
    return Ground("water", stones.albedo * 0.8, stones.height, 0.3 * _noise(rng, 100, 500), 1.6)


def _shore(rng: np.random.Generator) -> float:
    return float(rng.uniform(-1.6, 0.1))


KINDS: dict[str, Callable[[np.random.Generator, float], Ground]] = {
    "cobbles": _cobbles,
    "rock": _rock,
    "ice": _ice,
    "mud": _mud,
    "snow": _snow,
    "bank": _bank,
    "water": _lake,
}
