"""A coat per individual: its rings on dark, mottled fur with spots, scars and a pale belly, as a map around the body.

The map has rows = theta (0 at the back, pi/2 left flank, pi belly) and columns = s (nose to tail), with the true aspect
of an average body: where it is thickest, one pixel is 1 / size of a body length both ways. Rows are periodic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from pusa.synthetic.renderer_a import body
from pusa.synthetic.renderer_a.noise import fractal
from pusa.synthetic.renderer_a.rings import SIZE, RingModel, around, ring_map


@dataclass(frozen=True)
class Coat:
    """The fur of one individual; all maps are rows x columns = theta x s.

    rings: bool, the light lines. soft: uint8, the lines with soft edges and uneven strength (0..255). base: uint8 RGB,
    the fur without rings. moult: uint8, the order in which old fur is shed: of a coat that is old by a share m, the
    pixels below 255 m. light, flipper: float32 RGB of a ring and of the flippers. size: pixels of a body length.
    """

    rings: np.ndarray
    soft: np.ndarray
    base: np.ndarray
    moult: np.ndarray
    light: np.ndarray
    flipper: np.ndarray
    size: int


@lru_cache(maxsize=64)  # 3.1 MB each
def coat(seed: int, models: tuple[RingModel, ...] = ("placed", "reaction"), size: int = SIZE) -> Coat:
    """The coat of individual `seed`, whose rings follow one of `models`: the same for the same arguments."""
    rng = np.random.default_rng([seed, 1])
    shape = (round(2 * np.pi * body.GIRTH * size), size)
    rings = ring_map(rng, size, models[rng.integers(len(models))])
    strength = np.clip(0.8 + 0.25 * fractal(rng, shape, size / 8, 2), 0.25, 1)
    soft = cv2.GaussianBlur(rings.astype(np.float32), (0, 0), size * 0.0018) * strength
    base, light, flipper = _fur(rng, shape)
    _scars(rng, base, soft)
    order = fractal(rng, shape, size / 4, 5)
    return Coat(rings, (soft * 255).astype(np.uint8), base, _ranks(order), light, flipper, size)


def _ranks(field: np.ndarray) -> np.ndarray:
    """The field as uint8 such that a share m of it lies below 255 m."""
    levels = np.quantile(field, np.linspace(0, 1, 64))
    return np.interp(field, levels, np.linspace(0, 255, 64)).astype(np.uint8)


def _scars(rng: np.random.Generator, base: np.ndarray, soft: np.ndarray) -> None:
    """Bites and cuts, drawn in place: pale or dark lines that run across fur and rings."""
    rows, size = soft.shape
    for _ in range(rng.poisson(0.7)):
        start = np.array([rng.uniform(0.1, 0.9) * size, rng.uniform(0.1, 0.9) * rows])
        steps = np.cumsum(rng.normal(rng.normal(0, 0.006, 2), 0.0015, (10, 2)), axis=0) * size
        line = np.round((start + steps) * 16).astype(np.int32).reshape(-1, 1, 2)
        width, tone = int(rng.integers(3, 9)), rng.choice([40.0, 195.0])
        cv2.polylines(base, [line], False, (tone, 0.93 * tone, 0.88 * tone), width, cv2.LINE_AA, 4)
        cv2.polylines(soft, [line], False, 0.0, width + 2, cv2.LINE_8, 4)


def _fur(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fur without rings (uint8 RGB map), colour of the rings, colour of the flippers."""
    rows, cols = shape
    theta = (np.arange(rows, dtype=np.float32)[:, None] + 0.5) / rows * 2 * np.pi
    s = (np.arange(cols, dtype=np.float32)[None] + 0.5) / cols
    tint = np.array([1.0, rng.uniform(0.93, 0.98), rng.uniform(0.84, 0.97)], np.float32)
    dark, pale, light = rng.uniform(52, 100), rng.uniform(135, 180), rng.uniform(170, 215)
    mottle = fractal(rng, shape, cols / 10, 3)
    # Dark saddle on the back, pale belly, with an edge that differs between individuals.
    edge = rng.uniform(0.62, 0.78) * np.pi
    off_back = np.abs(around(theta)).astype(np.float32)
    belly = 1 / (1 + np.exp((edge - off_back - 0.18 * mottle) / 0.17))
    saddle = np.clip(1 - off_back / rng.uniform(0.9, 1.4), 0, 1)
    grey = dark + belly * (pale - dark)
    grey *= 1 - 0.25 * saddle + 0.10 * mottle + 0.05 * fractal(rng, shape, cols / 60, 2)
    if rng.random() < 0.5:  # a spotted back
        spots = fractal(rng, shape, cols * rng.uniform(0.02, 0.04), 2) > rng.uniform(1.2, 1.9)
        grey *= 1 - rng.uniform(0.25, 0.5) * cv2.blur(spots.astype(np.float32), (5, 5)) * (off_back < 1.6)
    _face(grey, s, theta, rng)
    base = np.empty((*shape, 3), np.uint8)
    for channel in range(3):
        base[..., channel] = np.clip(grey * tint[channel], 8, 250)
    return base, light * tint, 0.75 * dark * tint


def _face(grey: np.ndarray, s: np.ndarray, theta: np.ndarray, rng: np.random.Generator) -> None:
    """Paints muzzle, nose and eyes into `grey` (float32 map), in place."""
    head = int(0.1 * s.shape[1])
    s, grey = s[:, :head], grey[:, :head]
    muzzle = np.clip(1 - s / 0.07, 0, 1) * (np.abs(around(theta)) > 0.6)
    grey += 0.7 * muzzle * (rng.uniform(80, 120) - grey)
    near = float(body.GIRTH * body.radius(0.07))
    for angle in (0.85, -0.85):
        distance = np.hypot(s - 0.068, around(theta - angle) * near)
        grey[distance < 0.020] *= 0.75
        grey[distance < 0.0125] = 12
    grey[:, s[0] < 0.011] = 20
