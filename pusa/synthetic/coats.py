"""A coat per individual: light irregular rings and pieces of a net on a dark, mottled ground, as a map around the body.

The map has rows = theta (0 at the back, pi/2 left flank, pi belly) and columns = s (nose to tail), with the true aspect of an average body:
one pixel is 1 / size of a body length in both directions where the body is thickest. Rows are periodic.
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

    rings: bool, the light lines. soft: uint8, the lines with soft edges and uneven strength (0..255). base: uint8 RGB, the fur
    without rings. light: RGB of a ring. flipper: RGB. size: pixels of a body length.
    """

    rings: np.ndarray
    soft: np.ndarray
    base: np.ndarray
    light: np.ndarray
    flipper: np.ndarray
    size: int


@lru_cache(maxsize=48)  # about 4 MB each
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

    Rings are 3 to 10 % of the body's length, irregular, lie at random with a few that merge, some are open; a light net joins
    some neighbours. Lines are 0.8 to 1.2 % of the length wide.
    """
    rows = round(2 * np.pi * body.GIRTH * size)
    canvas = np.zeros((3 * rows, size), np.uint8)  # three turns, so that a ring may cross theta = 0
    rings = _place(rng)
    openness, net = rng.uniform(0.2, 0.55), rng.uniform(0.15, 0.5)
    for s, theta, diameter in rings:
        for arc in _arcs(rng, diameter, openness):
            _stroke(canvas, s, theta, arc, size, rng.uniform(0.008, 0.012))
    for i, (s, theta, diameter) in enumerate(rings):
        gap = np.hypot(rings[:, 0] - s, _around(rings[:, 1] - theta) * body.GIRTH) - (rings[:, 2] + diameter) / 2
        for j in np.flatnonzero((gap < 0.03) & (np.arange(len(rings)) > i)):
            if rng.random() < net:
                end = np.array([rings[j, 0] - s, _around(rings[j, 1] - theta) * body.GIRTH * body.radius(s)])
                _stroke(canvas, s, theta, _bridge(rng, end, diameter / 2, rings[j, 2] / 2), size, rng.uniform(0.007, 0.010))
    turns = canvas.reshape(3, rows, size)
    return turns.max(axis=0) > 127


def _around(angle: np.ndarray | float) -> np.ndarray:
    """An angle as -pi..pi."""
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi


def _place(rng: np.random.Generator) -> np.ndarray:
    """Centres and diameters of the rings: (n, 3) = s, theta, diameter in body lengths."""
    typical, crowding = rng.uniform(0.045, 0.065), rng.uniform(0.75, 1.0)
    placed = np.zeros((0, 3))
    for _ in range(900):
        s, theta = rng.uniform(_FACE, _TAIL), rng.uniform(0, 2 * np.pi)
        if abs(_around(theta - np.pi)) < 0.75 and rng.random() < 0.9:  # the belly is plain
            continue
        if s < 0.25 and rng.random() < 0.5:
            continue
        diameter = float(np.clip(typical * np.exp(0.3 * rng.standard_normal()), 0.03, 0.10))
        local = body.GIRTH * body.radius(s)
        gap = np.hypot(placed[:, 0] - s, _around(placed[:, 1] - theta) * local)
        limit = 0.5 * (placed[:, 2] + diameter) + 0.012
        if (gap > limit * (crowding if rng.random() < 0.85 else 0.6)).all():
            placed = np.vstack([placed, [s, theta, diameter]])
    return placed


def _arcs(rng: np.random.Generator, diameter: float, openness: float) -> list[np.ndarray]:
    """One ring as one closed line, or one or two open pieces: lists of points (n, 2) in body lengths about its centre."""
    phi = np.linspace(0, 2 * np.pi, 49)
    waves = sum(rng.normal(0, 0.12 / k**0.7) * np.cos(k * phi + rng.uniform(0, 2 * np.pi)) for k in range(2, 6))
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
    """A curved piece of net from the edge of one ring to the edge of another at `end`; points (n, 2) in body lengths."""
    distance = max(float(np.hypot(*end)), 1e-6)
    t = np.linspace(min(near / distance, 0.5), max(1 - far / distance, 0.5), 9)[:, None]
    across = np.array([-end[1], end[0]])
    return t * end + rng.normal(0, 0.15) * np.sin(np.pi * t) * across


def _stroke(canvas: np.ndarray, s: float, theta: float, points: np.ndarray, size: int, width: float) -> None:
    """Draws a line given in body lengths about (s, theta). Where the body is thin, the same length is a larger angle."""
    rows = canvas.shape[0] // 3
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
    tint = np.array([1.0, rng.uniform(0.93, 0.99), rng.uniform(0.82, 0.95)], np.float32)
    dark = rng.uniform(48, 88) * tint
    pale = rng.uniform(135, 180) * tint
    light = rng.uniform(170, 215) * tint
    mottle = fractal(rng, shape, cols / 10, 4)
    # Dark saddle on the back, pale belly, with an edge that differs between individuals.
    edge = rng.uniform(0.62, 0.78) * np.pi
    belly = 1 / (1 + np.exp(-(np.abs(_around(theta)) - edge + 0.18 * mottle) / 0.17))
    saddle = np.clip(1 - np.abs(_around(theta)) / rng.uniform(0.9, 1.4), 0, 1)
    value = (1 - belly)[..., None] * dark + belly[..., None] * pale
    value *= (1 - 0.25 * saddle + 0.10 * mottle + 0.05 * fractal(rng, shape, cols / 60, 2))[..., None]
    _face(value, s, theta, tint, rng)
    return np.clip(value, 8, 250).astype(np.uint8), light, dark * 0.75


def _face(value: np.ndarray, s: np.ndarray, theta: np.ndarray, tint: np.ndarray, rng: np.random.Generator) -> None:
    """Paints muzzle, nose and eyes into `value` (float32 RGB map), in place."""
    tone = rng.uniform(80, 120) * tint
    muzzle = np.clip(1 - s / 0.07, 0, 1) * (np.abs(_around(theta)) > 0.6)
    value += muzzle[..., None] * (tone - value) * 0.7
    near = float(body.GIRTH * body.radius(np.array(0.07)))
    for angle in (0.85, -0.85):
        distance = np.hypot(s - 0.068, _around(theta - angle) * near)
        value[distance < 0.020] *= 0.75
        value[distance < 0.0125] = 12
    value[np.broadcast_to(s < 0.011, theta.shape[:1] + s.shape[1:])] = 20
