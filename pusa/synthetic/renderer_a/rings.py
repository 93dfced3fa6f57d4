"""Two models of where the rings of a coat are, as a map around the body: bool, rows = theta, columns = s.

`placed` draws irregular rings one by one: they merge, are open, and a light net joins some. `reaction` grows spots by
reaction and diffusion (Gray-Scott, Pearson 1993) and takes their outlines. Rows are periodic and the aspect is that of
an average body: where it is thickest, one pixel is 1 / size of a body length both ways.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from pusa.synthetic.renderer_a import body
from pusa.synthetic.renderer_a.noise import fractal

SIZE = 768  # pixels of a body length; a line of 1 % is then 7.7 px wide
RingModel = Literal["placed", "reaction"]
_FACE, _TAIL = 0.15, 0.94  # no rings before and behind


def ring_map(rng: np.random.Generator, size: int = SIZE, model: RingModel = "placed") -> np.ndarray:
    """Draws a ring pattern: bool (theta, s), about 0.88 size x size.

    Rings measure 3 to 10 % of the body's length, lines 0.8 to 1.2 %.
    """
    return {"placed": _placed, "reaction": _reaction}[model](rng, size)


def _placed(rng: np.random.Generator, size: int) -> np.ndarray:
    """Rings that lie at random and are irregular; a few merge, some are open, a light net joins some neighbours."""
    rows = round(2 * np.pi * body.GIRTH * size)
    canvas = np.zeros((3 * rows, size), np.uint8)  # three turns, so that a ring may cross theta = 0
    rings = _place(rng)
    openness, net = rng.uniform(0.2, 0.55), rng.uniform(0.15, 0.5)
    for s, theta, diameter in rings:
        for arc in _arcs(rng, diameter, openness):
            _stroke(canvas, (s, theta), arc, rng.uniform(0.008, 0.012))
    for i, (s, theta, diameter) in enumerate(rings):
        gap = np.hypot(rings[:, 0] - s, around(rings[:, 1] - theta) * body.GIRTH) - (rings[:, 2] + diameter) / 2
        for j in np.flatnonzero((gap < 0.03) & (np.arange(len(rings)) > i)):
            if rng.random() < net:
                end = np.array([rings[j, 0] - s, around(rings[j, 1] - theta) * body.GIRTH * body.radius(s)])
                bridge = _bridge(rng, end, diameter / 2, rings[j, 2] / 2)
                _stroke(canvas, (s, theta), bridge, rng.uniform(0.007, 0.010))
    turns = canvas.reshape(3, rows, size)
    return turns.max(axis=0) > 127


def around(angle: np.ndarray | float) -> np.ndarray:
    """An angle as -pi..pi."""
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi


def _place(rng: np.random.Generator) -> np.ndarray:
    """Centres and diameters of the rings: (n, 3) = s, theta, diameter in body lengths."""
    typical, crowding = rng.uniform(0.045, 0.065), rng.uniform(0.75, 1.0)
    tries = 900
    s, theta = rng.uniform(_FACE, _TAIL, tries), rng.uniform(0, 2 * np.pi, tries)
    diameter = np.clip(typical * np.exp(0.3 * rng.standard_normal(tries)), 0.03, 0.10)
    closeness = np.where(rng.random(tries) < 0.85, crowding, 0.6)  # some may merge with their neighbours
    plain = (np.abs(around(theta - np.pi)) < 0.75) & (rng.random(tries) < 0.9)  # the belly
    plain |= (s < 0.25) & (rng.random(tries) < 0.5)  # the neck
    local = body.GIRTH * body.radius(s)
    placed = np.zeros(tries, bool)
    for i in np.flatnonzero(~plain):
        gap = np.hypot(s[placed] - s[i], around(theta[placed] - theta[i]) * local[i])
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


def _reaction(rng: np.random.Generator, size: int) -> np.ndarray:
    """Outlines of spots that reaction and diffusion grow: evenly spaced, round to long, here and there broken."""
    rows = round(2 * np.pi * body.GIRTH * size)
    spacing = rng.uniform(0.055, 0.080)  # of the spots, in body lengths
    cell = spacing / 11.5  # the spots of these parameters lie about 11.5 cells apart
    field = _gray_scott(rng, (round(2 * np.pi * body.GIRTH / cell), round(1 / cell)))
    # Read along circles of the true length: where the body is thin, there is room for less. So the map does not close,
    # and the seam is put where no ring is: at the belly.
    s = np.repeat((np.arange(size, dtype=np.float32)[None] + 0.5) / size, rows, axis=0)
    theta = np.repeat((np.arange(rows, dtype=np.float32)[:, None] + 0.5) / rows * 2 * np.pi, size, axis=1)
    girthwise = around(theta).astype(np.float32) * body.GIRTH * np.maximum(body.radius(s), 0.25).astype(np.float32)
    wobble = [spacing * 0.16 * fractal(rng, (rows, size), size * spacing * 1.5, 2) for _ in range(2)]
    x, y = (s + wobble[0]) / cell, (girthwise + wobble[1]) / cell + field.shape[0] / 2
    grown = cv2.remap(field, x, y.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    level = rng.uniform(0.35, 0.55) * np.percentile(field, 99)
    margin = rows // 8  # wrapped, or outlines would end at theta = 0
    spot = cv2.copyMakeBorder((grown > level).astype(np.uint8), margin, margin, 0, 0, cv2.BORDER_WRAP)
    distance = cv2.distanceTransform(spot, cv2.DIST_L2, 5) + cv2.distanceTransform(1 - spot, cv2.DIST_L2, 5)
    distance = distance[margin:-margin]
    width = rng.uniform(0.008, 0.012) * size * (1 + 0.15 * fractal(rng, (rows, size), size / 12, 2))
    gaps = fractal(rng, (rows, size), size * spacing / 2, 2) > rng.uniform(1.0, 1.8)
    edge = 0.12 * fractal(rng, (rows, size), size / 10, 2)
    plain = (np.abs(around(theta - np.pi)) < 0.65 + edge) | (s < _FACE + 0.05 + 0.3 * edge) | (s > _TAIL)
    return (distance < width / 2 + 0.5) & ~gaps & ~plain


def _gray_scott(rng: np.random.Generator, shape: tuple[int, int], steps: int = 1500) -> np.ndarray:
    """Concentration (float32 `shape`, 0..0.5) of the autocatalyst after `steps`: spots and short stripes; periodic."""
    feed = rng.uniform(0.030, 0.037)
    kill = 0.0605 + 0.35 * (feed - 0.030) + rng.uniform(0, 0.0015)
    u, v = np.ones(shape, np.float32), (rng.random(shape) < 0.02).astype(np.float32)
    v = cv2.blur(v, (3, 3)) * np.float32(1.5)
    u -= 0.5 * v
    kernel = np.array([[0.05, 0.2, 0.05], [0.2, -1.0, 0.2], [0.05, 0.2, 0.05]], np.float32)

    def spread(field: np.ndarray) -> np.ndarray:
        return cv2.filter2D(cv2.copyMakeBorder(field, 1, 1, 1, 1, cv2.BORDER_WRAP), -1, kernel)[1:-1, 1:-1]

    for _ in range(steps):
        reaction = u * v * v
        du, dv = 0.8 * spread(u) - reaction + feed * (1 - u), 0.4 * spread(v) + reaction - (feed + kill) * v
        u, v = u + du, v + dv
    return v
