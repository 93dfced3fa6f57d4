"""Backgrounds of synthetic photos: sky, water, far shore, five kinds of ground, and rocks as sprites.

All images are float32 h x w x 3, RGB, 0..255. `light` is a unit vector towards the sun in world axes (x right, y away, z up).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pusa.synthetic.noise import fractal

GROUNDS = ("pebbles", "slab", "boulders", "sand", "ice", "vegetation")


@dataclass(frozen=True)
class Sprite:
    """A thing that may stand before or behind an animal: `rgb` float32, `alpha` float32 0..1, top left corner, foot line `base`."""

    rgb: np.ndarray
    alpha: np.ndarray
    x0: int
    y0: int
    base: float


def backdrop(
    rng: np.random.Generator, ground: str, shape: tuple[int, int], horizon: float, shoreline: float, tint: np.ndarray
) -> np.ndarray:
    """Sky above `horizon`, water down to `shoreline` (rows, may lie outside), `ground` below. `tint`: RGB factors of the light."""
    h, w = shape
    texture = _Plane(shape, horizon)
    land = _GROUNDS[ground](rng, texture)
    image = land.copy()
    top = int(np.clip(horizon, 0, h))
    if top:
        image[:top] = _sky(rng, (top, w))
    if shoreline > top:
        image[top:] = _water(rng, texture, image[0, 0] if top else None)[top:]
    if 0 < horizon < h and shoreline > horizon and rng.random() < 0.7:
        _far_shore(rng, image, top)
    edge = shoreline + 0.025 * h * fractal(rng, (1, w), w / 5, 4)[0]
    inside = np.clip((np.arange(h, dtype=np.float32)[:, None] - edge) / 3 + 0.5, 0, 1)
    wet = np.clip(1 - (np.arange(h, dtype=np.float32)[:, None] - edge) / (0.05 * h), 0, 1)
    if ground != "ice":
        land *= (1 - 0.4 * wet)[..., None]
    image += inside[..., None] * (land - image)
    image *= tint
    return np.clip(image, 0, 255, out=image)


def rock(
    rng: np.random.Generator, ground: str, centre: float, base: float, width: float, light: np.ndarray, sun: float
) -> Sprite:
    """A boulder (of ice or turf where the ground is) whose foot is at row `base`; sizes in pixels of the canvas."""
    w = max(int(width), 8)
    h = max(int(w * rng.uniform(0.35, 0.75)), 6)
    phi = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    r = 1 + sum(rng.normal(0, 0.10 / k**0.5) * np.cos(k * phi + rng.uniform(0, 6.28)) for k in range(2, 8))
    r /= r.max()
    x, y = (r * np.cos(phi) * 0.48 + 0.5) * w, (r * np.sin(phi) * 0.48 + 0.5) * h
    y = np.minimum(y, 0.88 * h + 0.05 * h * np.sin(3 * phi))  # it stands on the ground
    mask = np.zeros((h, w), np.uint8)
    cv2.fillPoly(mask, [np.round(np.stack([x, y], 1) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    inner = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 3)
    dome = np.sqrt(np.clip(inner / max(inner.max(), 1e-3), 0, 1)) * h * 0.45
    dome += fractal(rng, (h, w), max(w / 3, 3), 5) * w * 0.018
    gy, gx = np.gradient(cv2.GaussianBlur(dome, (0, 0), 0.8))
    length = np.sqrt(gx**2 + gy**2 + 0.6)
    shade = np.clip((-gx * light[0] - gy * -light[2] - light[1] * 0.77) / length, 0, 1)
    up = np.clip(0.5 + 0.5 * gy / length, 0, 1)
    tone = _rock_colour(rng, ground)
    rgb = tone * (1 + 0.13 * fractal(rng, (h, w), max(w / 2, 3), 5, 1.3))[..., None]
    rgb = rgb * ((1 - 0.6 * sun) * (0.5 + 0.5 * up) + 1.05 * sun * shade)[..., None]
    if ground in ("pebbles", "slab", "boulders") and rng.random() < 0.5:  # lichen, droppings, algae
        spots = fractal(rng, (h, w), max(w / 6, 3), 3) > 1.2
        rgb[spots] = rgb[spots] * 0.5 + 0.5 * np.array([rng.uniform(60, 190)] * 3) * [1, rng.uniform(0.9, 1.05), 0.85]
    # The bottom is darker: less sky, and damp.
    rgb *= np.clip(1.15 - 0.6 * np.linspace(0, 1, h) ** 2, 0, 1)[:, None, None]
    return Sprite(
        np.clip(rgb, 0, 255).astype(np.float32), mask.astype(np.float32) / 255, int(centre - w / 2), int(base - 0.9 * h), base
    )


def _rock_colour(rng: np.random.Generator, ground: str) -> np.ndarray:
    if ground == "ice":
        return np.array([205, 215, 225]) * rng.uniform(0.75, 1.1)
    if ground == "vegetation":
        return np.array([88, 96, 58]) * rng.uniform(0.6, 1.2)
    warm = rng.uniform(0.82, 1.0)
    return rng.uniform(60, 165) * np.array([1.0, (1 + warm) / 2 + rng.uniform(-0.03, 0.02), warm])


class _Plane:
    """A level plane in perspective: rows from the horizon down, with textures that become finer with distance."""

    def __init__(self, shape: tuple[int, int], horizon: float) -> None:
        self.shape = h, w = shape
        self.horizon = horizon
        rows = np.arange(h, dtype=np.float32)[:, None]
        near = (rows - horizon) / (h - horizon)  # 1 at the lower border, 0 at the horizon
        self.scale = np.maximum(near, 0.02) * np.ones((1, w), np.float32)
        self._v = (1 / self.scale * 700).astype(np.float32)
        self._u = ((np.arange(w, dtype=np.float32)[None] - w / 2) / self.scale).astype(np.float32)

    def noise(self, rng: np.random.Generator, cell: float, octaves: int = 4, stretch: float = 1.0) -> np.ndarray:
        """Fractal noise on the plane, `cell` in pixels at the lower border."""
        tile = fractal(rng, (1024, 1024), cell, octaves, stretch)
        fade = np.clip(self.scale * 4, 0, 1)
        out = cv2.remap(tile, self._u, self._v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        return out * fade

    def spots(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """`n` random points below the horizon, far ones first: (n, 3) = x, y, scale."""
        h, w = self.shape
        start = max(self.horizon + 0.06 * (h - self.horizon), 0)
        y = np.sort(start + (h * 1.03 - start) * rng.random(n) ** 0.8)
        return np.stack([rng.uniform(-20, w + 20, n), y, (y - self.horizon) / (h - self.horizon)], axis=1)


def _tone(plane: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return (plane[..., None] * np.asarray(colour, np.float32)).astype(np.float32)


def _sky(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    h, w = shape
    high = np.array([rng.uniform(90, 190), rng.uniform(140, 200), rng.uniform(190, 235)], np.float32)
    low = high + (235 - high) * rng.uniform(0.4, 0.9)
    t = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    clouds = np.clip(fractal(rng, shape, max(h / 2, 20), 5, 3.0) * 0.5, 0, 1)[..., None] * rng.uniform(0.1, 0.8)
    sky = high + t * (low - high)
    return sky + clouds * (238 - sky)


def _far_shore(rng: np.random.Generator, image: np.ndarray, top: int) -> None:
    h, w = image.shape[:2]
    height = np.clip(rng.uniform(4, 0.05 * h) * (1 + 0.5 * fractal(rng, (1, w), w / 4, 5)[0]), 0, None)
    rows = np.arange(top, dtype=np.float32)[:, None]
    wood = np.clip(rows - (top - height), 0, 1)[..., None]
    colour = np.array([rng.uniform(50, 110), rng.uniform(65, 120), rng.uniform(65, 125)], np.float32)
    image[:top] += wood * (colour - image[:top])


def _water(rng: np.random.Generator, plane: _Plane, sky: np.ndarray | None) -> np.ndarray:
    colour = np.array([rng.uniform(45, 110), rng.uniform(70, 125), rng.uniform(85, 150)], np.float32)
    glint = 0.5 * (colour + (sky if sky is not None else np.array([170, 190, 210], np.float32)))
    waves = plane.noise(rng, rng.uniform(30, 90), 4, rng.uniform(2.0, 5.0))
    far = np.clip(1.2 - 1.5 * plane.scale, 0, 1)
    mix = np.clip(0.25 + 0.5 * far + 0.28 * waves, 0, 1.3)[..., None]
    water = colour + mix * (glint - colour)
    foam = np.clip(waves - rng.uniform(1.8, 2.8), 0, 1)[..., None]
    return water + foam * (235 - water)


def _stones(rng: np.random.Generator, plane: _Plane, image: np.ndarray, n: int, size: float, colour: np.ndarray) -> None:
    for x, y, scale in plane.spots(rng, n):
        a = max(size * scale * rng.lognormal(0, 0.45), 1.5)
        b, angle = a * rng.uniform(0.4, 0.75), rng.normal(0, 14)
        tone = colour * rng.lognormal(0, 0.28) * (1 + rng.normal(0, 0.05, 3))
        for dx, dy, share, factor in ((0.1, 0.22, 1.06, 0.42), (0, 0, 1, 0.85), (-0.06, -0.14, 0.72, 1.08)):
            centre = (round((x + dx * a) * 16), round((y + dy * b) * 16))
            axes = (round(a * share * 16), round(b * share * 16))
            fill = tuple(float(v) for v in tone * factor)
            cv2.ellipse(image, centre, axes, angle, 0, 360, fill, -1, cv2.LINE_8, 4)


def _pebbles(rng: np.random.Generator, plane: _Plane) -> np.ndarray:
    colour = rng.uniform(80, 150) * np.array([1.0, rng.uniform(0.92, 0.99), rng.uniform(0.8, 0.97)])
    image = _tone(1 + 0.2 * plane.noise(rng, 20), colour * 0.7)
    _stones(rng, plane, image, 1500, rng.uniform(12, 26), colour)
    return image * (1 + 0.08 * plane.noise(rng, 12, 2))[..., None]


def _slab(rng: np.random.Generator, plane: _Plane) -> np.ndarray:
    colour = rng.uniform(85, 160) * np.array([1.0, rng.uniform(0.9, 0.99), rng.uniform(0.8, 0.96)])
    image = _tone(1 + 0.14 * plane.noise(rng, 220, 6) + 0.07 * plane.noise(rng, 10, 2), colour)
    h, w = plane.shape
    for _ in range(rng.integers(6, 18)):  # cracks
        steps = np.cumsum(rng.normal([rng.uniform(-8, 8), rng.uniform(-3, 3)], [14, 4], (40, 2)), axis=0)
        line = np.round(steps + [rng.uniform(0, w), rng.uniform(max(plane.horizon, 0), h)]).astype(np.int32)
        cv2.polylines(image, [line.reshape(-1, 1, 2)], False, tuple(float(v) for v in colour * 0.45), int(rng.integers(1, 4)))
    stains = np.clip(plane.noise(rng, 150, 4) - 1.0, 0, 1)[..., None]
    return image * (1 - 0.5 * stains)


def _boulders(rng: np.random.Generator, plane: _Plane) -> np.ndarray:
    colour = rng.uniform(75, 145) * np.array([1.0, rng.uniform(0.92, 0.99), rng.uniform(0.82, 0.97)])
    image = _tone(1 + 0.25 * plane.noise(rng, 50), colour * 0.5)
    _stones(rng, plane, image, 260, rng.uniform(45, 80), colour)
    _stones(rng, plane, image, 300, rng.uniform(10, 20), colour)
    return image * (1 + 0.13 * plane.noise(rng, 30, 5))[..., None]


def _sand(rng: np.random.Generator, plane: _Plane) -> np.ndarray:
    colour = rng.uniform(150, 215) * np.array([1.0, rng.uniform(0.86, 0.93), rng.uniform(0.66, 0.8)])
    dunes = plane.noise(rng, 300, 4)
    ripples = np.sin(plane._v / rng.uniform(9, 16) + 2.5 * plane.noise(rng, 260, 3)) * np.clip(plane.scale * 2 - 0.4, 0, 1)
    return _tone(1 + 0.06 * dunes + 0.05 * ripples + 0.03 * plane.noise(rng, 5, 2), colour)


def _ice(rng: np.random.Generator, plane: _Plane) -> np.ndarray:
    colour = np.array([205, 217, 228]) * rng.uniform(0.85, 1.08)
    snow = np.clip(plane.noise(rng, 260, 5), -1, 1)
    image = _tone(1 + 0.07 * snow + 0.02 * plane.noise(rng, 10, 3), colour)
    ridges = 1 - np.clip(np.abs(plane.noise(rng, 200, 4)) * 14, 0, 1)
    return image * (1 - 0.3 * ridges)[..., None] * np.array([1 - 0.02, 1, 1.01], np.float32)


def _vegetation(rng: np.random.Generator, plane: _Plane) -> np.ndarray:
    colour = np.array([rng.uniform(80, 140), rng.uniform(105, 140), rng.uniform(45, 75)])
    image = _tone(1 + 0.25 * plane.noise(rng, 120, 5), colour * 0.75)
    for x, y, scale in plane.spots(rng, 5000):
        length, lean = 32 * scale * rng.lognormal(0, 0.3), rng.normal(0, 0.4)
        tone = colour * rng.lognormal(0, 0.25) * (1 + rng.normal(0, 0.07, 3))
        end = (int(x + lean * length), int(y - length))
        cv2.line(image, (int(x), int(y)), end, tuple(float(v) for v in tone), max(int(2.5 * scale), 1))
    return image


_GROUNDS = dict(zip(GROUNDS, (_pebbles, _slab, _boulders, _sand, _ice, _vegetation), strict=True))
