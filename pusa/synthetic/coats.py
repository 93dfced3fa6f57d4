"""A coat per individual: light irregular rings and pieces of a net on a dark, mottled ground, as a map around the body.

The map has rows = theta (0 at the back, pi/2 left flank, pi belly) and columns = s (nose to tail), with the true aspect
of an average body: where it is thickest, one pixel is 1 / size of a body length both ways. Rows are periodic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from pusa.synthetic import body
from pusa.synthetic.noise import fractal

SIZE = 768  # pixels of a body length; a line of 1 % is then 7.7 px wide
_FACE, _TAIL = 0.15, 0.94  # no rings before and behind


@dataclass(frozen=True)
class Coat:
    """The fur of one individual; all maps are rows x columns = theta x s.

    rings: bool, the light lines. soft: uint8, the lines with soft edges and uneven strength (0..255). base: uint8 RGB,
    the fur without rings. light, flipper: float32 RGB of a ring and of the flippers. size: pixels of a body length.
    """

    rings: np.ndarray
    soft: np.ndarray
    base: np.ndarray
    light: np.ndarray
    flipper: np.ndarray
    size: int


@lru_cache(maxsize=64)  # 2.6 MB each
def coat(seed: int, size: int = SIZE) -> Coat:
    """The coat of individual `seed`: the same for the same seed and size."""
    rng = np.random.default_rng([seed, 1])
    shape = (round(2 * np.pi * body.GIRTH * size), size)
    rings = ring_map(rng, size)
    strength = np.clip(0.8 + 0.25 * fractal(rng, shape, size / 8, 2), 0.25, 1)
    soft = cv2.GaussianBlur(rings.astype(np.float32), (0, 0), size * 0.0018) * strength
    base, light, flipper = _fur(rng, shape)
    return Coat(rings, (soft * 255).astype(np.uint8), base, light, flipper, size)


def ring_map(rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """Draws a ring pattern: bool (theta, s), about 0.88 size x size.

    Rings measure 3 to 10 % of the body's length and are irregular; they lie at random, a few merge, some are open, and
    a light net joins some neighbours. Lines are 0.8 to 1.2 % of the length wide.
    """
    rows = round(2 * np.pi * body.GIRTH * size)
    canvas = np.zeros((3 * rows, size), np.uint8)  # three turns, so that a ring may cross theta = 0
    rings = _place(rng)
    openness, net = rng.uniform(0.2, 0.55), rng.uniform(0.15, 0.5)
    for s, theta, diameter in rings:
        for arc in _arcs(rng, diameter, openness):
            _stroke(canvas, (s, theta), arc, rng.uniform(0.008, 0.012))
    for i, (s, theta, diameter) in enumerate(rings):
        gap = np.hypot(rings[:, 0] - s, _around(rings[:, 1] - theta) * body.GIRTH) - (rings[:, 2] + diameter) / 2
        for j in np.flatnonzero((gap < 0.03) & (np.arange(len(rings)) > i)):
            if rng.random() < net:
                end = np.array([rings[j, 0] - s, _around(rings[j, 1] - theta) * body.GIRTH * body.radius(s)])
                bridge = _bridge(rng, end, diameter / 2, rings[j, 2] / 2)
                _stroke(canvas, (s, theta), bridge, rng.uniform(0.007, 0.010))
    turns = canvas.reshape(3, rows, size)
    return turns.max(axis=0) > 127


def _around(angle: np.ndarray | float) -> np.ndarray:
    """An angle as -pi..pi."""
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi


def _place(rng: np.random.Generator) -> np.ndarray:
    """Centres and diameters of the rings: (n, 3) = s, theta, diameter in body lengths."""
    typical, crowding = rng.uniform(0.045, 0.065), rng.uniform(0.75, 1.0)
    tries = 900
    s, theta = rng.uniform(_FACE, _TAIL, tries), rng.uniform(0, 2 * np.pi, tries)
    diameter = np.clip(typical * np.exp(0.3 * rng.standard_normal(tries)), 0.03, 0.10)
    closeness = np.where(rng.random(tries) < 0.85, crowding, 0.6)  # some may merge with their neighbours
    plain = (np.abs(_around(theta - np.pi)) < 0.75) & (rng.random(tries) < 0.9)  # the belly
    plain |= (s < 0.25) & (rng.random(tries) < 0.5)  # the neck
    local = body.GIRTH * body.radius(s)
    placed = np.zeros(tries, bool)
    for i in np.flatnonzero(~plain):
        gap = np.hypot(s[placed] - s[i], _around(theta[placed] - theta[i]) * local[i])
        placed[i] = (gap > closeness[i] * (0.5 * (diameter[placed] + diameter[i]) + 0.012)).all()
    return np.stack([s, theta, diameter], axis=1)[placed]


def _arcs(rng: np.random.Generator, diameter: float, openness: float) -> list[np.ndarray]:
    """One ring: a closed line, or one or two open pieces; each is points (n, 2) in body lengths about its centre."""
    phi = np.linspace(0, 2 * np.pi, 49)
    k = np.arange(2, 6)[:, None]
    waves = (rng.normal(0, 0.12 / k**0.7) * np.cos(k * phi + rng.uniform(0, 2 * np.pi, k.shape))).sum(axis=0)
    radius = diameter / 2 * np.clip(1 + waves, 0.5, 1.6)
    stretch = np.sqrt(rng.uniform(1.0, 1.7))
    points = np.stack([radius * np.cos(phi) * stretch, radius * np.sin(phi) / stretch], axis=1)
    turn = rng.normal(0, 0.6)
    points = points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points[-1] = points[0]
    if rng.random() > openness:
        return [points]
    start = rng.integers(0, 48)
    points = np.roll(points[:-1], -start, axis=0)
    if rng.random() < 0.3:
        cut = rng.integers(16, 26)
        return [points[: cut - 3], points[cut + 2 : 44]]
    return [points[: rng.integers(28, 44)]]


def _bridge(rng: np.random.Generator, end: np.ndarray, near: float, far: float) -> np.ndarray:
    """A curved piece of net between two rings of radius `near` and `far`, the far one at `end`; points (n, 2)."""
    distance = max(float(np.hypot(*end)), 1e-6)
    t = np.linspace(min(near / distance, 0.5), max(1 - far / distance, 0.5), 9)[:, None]
    across = np.array([-end[1], end[0]])
    return t * end + rng.normal(0, 0.15) * np.sin(np.pi * t) * across


def _stroke(canvas: np.ndarray, centre: tuple[float, float], points: np.ndarray, width: float) -> None:
    """Draws a line given in body lengths about `centre` (s, theta) into three turns of the map.

    Where the body is thin, the same length is a larger angle.
    """
    rows, size = canvas.shape[0] // 3, canvas.shape[1]
    s, theta = centre
    squeeze = 1 / max(float(body.radius(s)), 0.4)
    x = (s + points[:, 0]) * size
    y = rows + (theta / (2 * np.pi)) * rows + points[:, 1] * squeeze * size
    line = np.round(np.stack([x, y], axis=1) * 16).astype(np.int32)
    cv2.polylines(canvas, [line.reshape(-1, 1, 2)], False, 255, max(round(width * size), 1), cv2.LINE_AA, shift=4)


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
    around = np.abs(_around(theta)).astype(np.float32)
    belly = 1 / (1 + np.exp((edge - around - 0.18 * mottle) / 0.17))
    saddle = np.clip(1 - around / rng.uniform(0.9, 1.4), 0, 1)
    grey = dark + belly * (pale - dark)
    grey *= 1 - 0.25 * saddle + 0.10 * mottle + 0.05 * fractal(rng, shape, cols / 60, 2)
    _face(grey, s, theta, rng)
    base = np.empty((*shape, 3), np.uint8)
    for channel in range(3):
        base[..., channel] = np.clip(grey * tint[channel], 8, 250)
    return base, light * tint, 0.75 * dark * tint


def _face(grey: np.ndarray, s: np.ndarray, theta: np.ndarray, rng: np.random.Generator) -> None:
    """Paints muzzle, nose and eyes into `grey` (float32 map), in place."""
    head = int(0.1 * s.shape[1])
    s, grey = s[:, :head], grey[:, :head]
    muzzle = np.clip(1 - s / 0.07, 0, 1) * (np.abs(_around(theta)) > 0.6)
    grey += 0.7 * muzzle * (rng.uniform(80, 120) - grey)
    near = float(body.GIRTH * body.radius(0.07))
    for angle in (0.85, -0.85):
        distance = np.hypot(s - 0.068, _around(theta - angle) * near)
        grey[distance < 0.020] *= 0.75
        grey[distance < 0.0125] = 12
    grey[:, s[0] < 0.011] = 20
