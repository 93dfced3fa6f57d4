"""The coat of an individual: rings as level sets of a cell field around scattered sites, worked out on the skin itself.

Distances are measured on the body (a turn is as long as the body is around there), so rings are round where they lie.
A ring is the set of points at the radius of its site. Where the fields of two sites meet, their rings run together or
share a wall; noise bends the lines, thins them and opens them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from pusa.synthetic.renderer_b.body import radius
from pusa.synthetic.renderer_b.fields import f32, smooth, spectral
from pusa.synthetic.renderer_b.look import Look

ROWS, COLUMNS = 512, 640  # theta, s; 640 columns are one body length, 512 rows about the girth in that scale
REACH = 0.035  # body lengths beyond a ring that its field is worked out
IS_RING = 0.5  # strength from which a place counts as ring


@dataclass(frozen=True)
class Coat:
    """All that is painted on the skin, rows = theta, columns = s.

    rings: float16 0..1, strength of the light lines. tone: float16, reflectance between the rings. tint: float32 of
    3, red, green and blue of the coat around 1.
    """

    rings: np.ndarray
    tone: np.ndarray
    tint: np.ndarray


def coat_map(identity: int, look: Look) -> np.ndarray:
    """Rings of an individual, the same for every `look`: bool 512 x 640, rows = theta (periodic, row 0 = the back)."""
    return coat(identity).rings > IS_RING


@lru_cache(maxsize=24)
def coat(identity: int) -> Coat:
    """The coat that belongs to a seed."""
    rng = np.random.default_rng([identity, 71])
    s = ((np.arange(COLUMNS) + 0.5) / COLUMNS).astype(np.float32)
    theta = ((np.arange(ROWS) + 0.5) / ROWS).astype(np.float32)[:, None]
    zone = _zone(s, theta)
    sites = _sites(rng)
    near, second = _field(rng, s, theta, sites)
    width = rng.uniform(0.0085, 0.0115) * (1 + 0.2 * spectral(rng, (ROWS, COLUMNS), 10, 60))
    width = np.clip(width, 0.007, 0.0145)
    opened = spectral(rng, (ROWS, COLUMNS), 12, 45) - rng.uniform(0.7, 1.3)  # above 0 the line is broken
    shared = spectral(rng, (ROWS, COLUMNS), 30, 90)  # above 0 two rings that touch keep the wall between them
    between = second - near
    line = _line(near, width) * smooth(opened, 0.25, 0.0)
    wall = _line(between * 0.6, width) * (near < 0) * smooth(shared, 0.0, 0.3)
    net = 0.35 * _line(between * 0.5, 0.8 * width) * smooth(near, 0.0, 0.01) * smooth(shared, 0.4, -0.4)
    rings = zone * np.maximum(np.maximum(line, wall), net)
    tint = np.array([1.0, 0.92 + 0.05 * rng.random(), 0.84 + 0.1 * rng.random()], np.float32)
    return Coat(rings.astype(np.float16), _tone(rng, s, theta).astype(np.float16), tint)


def _zone(s: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """0..1, where rings are: the trunk but for the belly; hardly any on the head and at the tail."""
    belly = smooth(-np.cos(2 * np.pi * theta), 0.45, 0.9)
    return f32((1 - 0.9 * belly) * smooth(s, 0.12, 0.2) * smooth(s, 1.0, 0.93))


def _sites(rng: np.random.Generator) -> np.ndarray:
    """Sites thrown like darts, none inside the ring of another: rows of s, theta, radius in body lengths."""
    typical = rng.uniform(0.023, 0.031)
    crowd = rng.uniform(0.88, 1.04)  # where it is below 1, neighbours overlap
    kept: list[tuple[float, float, float]] = []
    s, theta = rng.uniform(0.13, 0.98, 2500), rng.random(2500)
    r = np.clip(typical * np.exp(0.3 * rng.standard_normal(2500)), 0.0165, 0.045)
    around = 2 * np.pi * radius(s)
    wanted = rng.random(2500) < around / 0.8 * _zone(s, theta)
    for i in np.flatnonzero(wanted):
        if kept:
            old = np.array(kept)
            turn = np.abs(old[:, 1] - theta[i])
            far = np.hypot(old[:, 0] - s[i], np.minimum(turn, 1 - turn) * around[i])
            if (far < crowd * (old[:, 2] + r[i])).any():
                continue
        kept.append((s[i], theta[i], r[i]))
    return np.array(kept)


def _field(
    rng: np.random.Generator, s: np.ndarray, theta: np.ndarray, sites: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the nearest and the second ring, body lengths, negative inside: float32, rows x columns each."""
    near = np.full((ROWS, COLUMNS), 1.0, np.float32)
    second = near.copy()
    around = (2 * np.pi * radius(s)).astype(np.float32)
    bend_s, bend_t = (0.0045 * spectral(rng, (ROWS, COLUMNS), 30, 90) for _ in range(2))
    for s0, theta0, r in sites:
        a, b = np.searchsorted(s, [s0 - r - REACH, s0 + r + REACH])
        half = min(0.5, (r + REACH) / around[a:b].min())
        first = int((theta0 - half) * ROWS)
        rows = np.arange(first, min(first + ROWS, int((theta0 + half) * ROWS) + 1)) % ROWS
        block = np.ix_(rows, np.arange(a, b))
        ds = s[a:b] - s0 + bend_s[block]
        dt = ((theta[rows] - theta0 + 0.5) % 1 - 0.5) * around[a:b] + bend_t[block]
        oval, angle = 1 + 0.22 * rng.standard_normal(), rng.uniform(0, np.pi)
        oval = float(np.clip(oval, 0.7, 1.4))
        u, v = ds * np.cos(angle) + dt * np.sin(angle), dt * np.cos(angle) - ds * np.sin(angle)
        d = np.hypot(u * oval**0.5, v / oval**0.5) - r
        second[block] = np.minimum(second[block], np.maximum(near[block], d))
        near[block] = np.minimum(near[block], d)
    return near, second


def _line(distance: np.ndarray, width: np.ndarray) -> np.ndarray:
    """1 within half the width of distance 0, 0 outside, with a soft border of one column."""
    return np.clip((0.5 * width - np.abs(distance)) * COLUMNS + 0.5, 0, 1)


def _tone(rng: np.random.Generator, s: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Reflectance between the rings: dark back, paler flanks, silvery belly, a few spots and scars."""
    up = np.cos(2 * np.pi * theta) + 0.16 * spectral(rng, (ROWS, COLUMNS), 40, 200)
    back, belly = rng.uniform(0.045, 0.085), rng.uniform(0.26, 0.42)
    tone = back + back * 0.9 * smooth(up, 0.9, -0.2) + belly * smooth(up, -0.35, -0.95)
    tone = tone * (1 + 0.10 * spectral(rng, (ROWS, COLUMNS), 8, 60)) * (1 + 0.5 * smooth(s, 0.06, 0.0))
    marks = np.zeros((ROWS, COLUMNS), np.float32)
    for _ in range(rng.poisson(2 + 10 * rng.random() ** 3)):  # dark spots
        at = (int(rng.integers(60, COLUMNS)), int(rng.integers(ROWS)))
        size = (int(rng.integers(2, 8)), int(rng.integers(2, 8)))
        cv2.ellipse(marks, at, size, float(rng.uniform(0, 180)), 0, 360, -0.45, -1)
    for _ in range(rng.poisson(1.2)):  # scars
        start = rng.integers([80, 0], [COLUMNS - 80, ROWS])
        end = start + rng.normal(0, 22, 2).astype(int)
        cv2.line(marks, start.tolist(), end.tolist(), 0.8, int(rng.integers(1, 4)), cv2.LINE_AA)
    return f32(np.clip(tone * (1 + cv2.GaussianBlur(marks, (0, 0), 1.0)), 0.03, 0.6))
