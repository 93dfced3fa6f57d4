"""Backgrounds of synthetic photos: sky, water, far shore, six kinds of ground, and rocks as sprites.

All images are float32 h x w x 3, RGB, 0..255. World axes: x to the right, y away from the camera, z up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pusa.synthetic.renderer_a.noise import fractal


@dataclass(frozen=True)
class Light:
    """direction: unit vector towards the sun, world axes. sun: its share against light from the sky, 0..1.

    tint: RGB factors, about 1.
    """

    direction: np.ndarray
    sun: float
    tint: np.ndarray


@dataclass(frozen=True)
class Sprite:
    """A thing that stands before or behind animals: `rgb` 0..255 and `alpha` 0..1, float32, its upper left corner
    on the canvas, and the row of its foot.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    x0: int
    y0: int
    base: float


def backdrop(
    rng: np.random.Generator, ground: str, shape: tuple[int, int], *, horizon: float, shoreline: float, light: Light
) -> np.ndarray:
    """Sky above the row `horizon`, water down to the row `shoreline`, `ground` below; either row may lie outside."""
    h, w = shape
    top = int(np.clip(horizon, 0, h))
    image = np.zeros((h, w, 3), np.float32)
    if top:
        image[:top] = _sky(rng, (top, w))
    hilly = 0.015 * h * float(np.clip((shoreline - horizon) / (0.2 * h), 0.15, 1))
    edge = shoreline + hilly * fractal(rng, (1, w), w / 5, 4)[0]
    start, end = int(np.clip(edge.min() - 2, top, h)), int(np.clip(edge.max() + 2, top, h))
    if end > top:
        image[top:end] = _water(rng, _Plane((h, w), horizon, top, end), image[0, 0] if top else None)
    if 0 < horizon < h and shoreline > horizon and rng.random() < 0.7 and top:  # of less than a row no shore is seen
        _far_shore(rng, image, top)
    land = _GROUNDS[ground](rng, _Plane((h, w), horizon, start, h), light)
    rows = np.arange(start, end, dtype=np.float32)[:, None]
    inside = np.clip((rows - edge) / 3 + 0.5, 0, 1)[..., None]
    wet = np.clip(1 - (np.arange(start, h, dtype=np.float32)[:, None] - edge) / (0.05 * h), 0, 1)
    land *= (1 - (0.1 if ground == "ice" else 0.4) * wet)[..., None]
    image[start:end] += inside * (land[: end - start] - image[start:end])
    image[end:] = land[end - start :]
    image *= light.tint
    return np.clip(image, 0, 255, out=image)


def rock(rng: np.random.Generator, ground: str, foot: tuple[float, float], width: float, light: Light) -> Sprite:
    """A boulder (of ice or turf where the ground is) that stands at the pixel `foot` (x, y), `width` pixels wide."""
    w = max(int(width), 8)
    h = max(int(w * rng.uniform(0.35, 0.75)), 6)
    phi = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    k = np.arange(2, 9)[:, None]
    r = 1 + (rng.normal(0, 0.13 / k) * np.cos(k * phi + rng.uniform(0, 2 * np.pi, k.shape))).sum(axis=0)
    r /= r.max()
    x, y = (r * np.cos(phi) * 0.48 + 0.5) * w, (r * np.sin(phi) * 0.48 + 0.5) * h
    y = np.minimum(y, 0.88 * h + 0.05 * h * np.sin(3 * phi))  # it stands on the ground
    mask = np.zeros((h, w), np.uint8)
    cv2.fillPoly(mask, [np.round(np.stack([x, y], 1) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    inner = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 5)
    dome = np.sqrt(np.clip(inner / max(inner.max(), 1e-3), 0, 1)) * h * 0.45
    dome = cv2.GaussianBlur(dome, (0, 0), max(0.035 * w, 0.8))
    dome += cv2.GaussianBlur(fractal(rng, (h, w), max(w / 3, 3), 5), (0, 0), 0.8) * w * 0.02
    tone = _rock_colour(rng, ground)
    rgb = (1 + 0.13 * fractal(rng, (h, w), max(w / 2, 3), 5, 1.3))[..., None] * tone
    if ground in ("pebbles", "slab", "boulders") and rng.random() < 0.5:  # lichen, droppings, algae
        spots = fractal(rng, (h, w), max(w / 6, 3), 3) > 1.2
        rgb[spots] = 0.5 * rgb[spots] + rng.uniform(30, 95) * np.array([1, rng.uniform(0.9, 1.05), 0.85])
    gy, gx = np.gradient(dome)
    rgb = rgb * _relief(gx, gy, light, 0.77)[..., None]
    rgb *= np.clip(1.15 - 0.6 * np.linspace(0, 1, h) ** 2, 0, 1)[:, None, None]  # less sky near the ground, and damp
    rgb = np.clip(rgb * light.tint, 0, 255).astype(np.float32)
    return Sprite(rgb, mask.astype(np.float32) / 255, int(foot[0] - w / 2), int(foot[1] - 0.9 * h), foot[1])


def _rock_colour(rng: np.random.Generator, ground: str) -> np.ndarray:
    if ground == "ice":
        return np.array([205, 215, 225]) * rng.uniform(0.75, 1.1)
    if ground == "vegetation":
        return np.array([88, 96, 58]) * rng.uniform(0.6, 1.2)
    warm = rng.uniform(0.82, 1.0)
    return rng.uniform(60, 165) * np.array([1.0, (1 + warm) / 2 + rng.uniform(-0.03, 0.02), warm])


def _relief(gx: np.ndarray, gy: np.ndarray, light: Light, towards: float) -> np.ndarray:
    """Brightness of a surface from the slopes of its height in the photo's plane; `towards`: how flat it is."""
    length = np.sqrt(gx**2 + gy**2 + towards**2)
    x, y, z = light.direction
    sun = np.clip((-gx * x + gy * z * 0.8 - towards * y * 0.6 + towards * z * 0.6) / length, 0, 1)
    sky = 0.7 + 0.3 * gy / length
    return ((1 - 0.6 * light.sun) * sky + 1.05 * light.sun * sun).astype(np.float32)


class _Plane:
    """Rows `start` to `end` of a level plane in perspective, with textures that become finer with distance."""

    def __init__(self, photo: tuple[int, int], horizon: float, start: int, end: int) -> None:
        h, w = photo
        self.shape = (end - start, w)
        self.horizon = horizon - start  # row, counted from `start`
        self.depth = h - horizon  # rows from the horizon to the lower border of the photo
        # 1 at the lower border, 0 at the horizon.
        self.scale = np.maximum((np.arange(end - start, dtype=np.float32)[:, None] - self.horizon) / self.depth, 0.02)
        self.far = (700 / self.scale).astype(np.float32)
        self._v = np.repeat(self.far, w, axis=1)
        self._u = ((np.arange(w, dtype=np.float32)[None] - w / 2) / self.scale).astype(np.float32)

    def noise(self, rng: np.random.Generator, cell: float, octaves: int = 3, stretch: float = 1.0) -> np.ndarray:
        """Fractal noise on the plane, `cell` in pixels at the lower border; it fades out where it would be too fine."""
        tile = fractal(rng, (1024, 1024), cell, octaves, stretch)
        fade = np.clip(self.scale * 4, 0, 1)
        return cv2.remap(tile, self._u, self._v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP) * fade

    def spots(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """`n` random points, far ones first: (n, 3) = x, y, scale."""
        h, w = self.shape
        start = max(self.horizon + 0.05 * self.depth, -10)
        y = np.sort(start + (h + 20 - start) * rng.random(n) ** 0.8)
        return np.stack([rng.uniform(-20, w + 20, n), y, (y - self.horizon) / self.depth], axis=1)


def _tone(grey: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return grey[..., None] * np.asarray(colour, np.float32)


def _grey(colour: np.ndarray, share: float) -> np.ndarray:
    """The colour, less saturated."""
    return (colour + share * (colour.mean() - colour)).astype(np.float32)


def _sky(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    h = shape[0]
    high = _grey(np.array([rng.uniform(100, 185), rng.uniform(140, 195), rng.uniform(180, 230)]), rng.uniform(0, 0.9))
    low = high + (235 - high) * rng.uniform(0.4, 0.9)
    t = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    clouds = np.clip(fractal(rng, shape, max(h / 2, 20), 5, 3.0) * 0.5, 0, 1)[..., None] * rng.uniform(0.1, 0.8)
    sky = high + t * (low - high)
    return sky + clouds * (238 - sky)


def _far_shore(rng: np.random.Generator, image: np.ndarray, top: int) -> None:
    h, w = image.shape[:2]
    height = np.clip(rng.uniform(4, 0.05 * h) * (1 + 0.5 * fractal(rng, (1, w), w / 4, 6)[0]), 0, None)
    rows = np.arange(top, dtype=np.float32)[:, None]
    wood = np.clip(rows - (top - height), 0, 1)[..., None]
    colour = _grey(np.array([rng.uniform(50, 110), rng.uniform(65, 120), rng.uniform(65, 125)]), 0.5)
    grain = 1 + 0.06 * fractal(rng, (top, w), 14, 3)[..., None]
    image[:top] += wood * (colour * grain - image[:top])


def _water(rng: np.random.Generator, plane: _Plane, sky: np.ndarray | None) -> np.ndarray:
    colour = _grey(np.array([rng.uniform(45, 110), rng.uniform(70, 125), rng.uniform(85, 150)]), rng.uniform(0.1, 0.7))
    glint = 0.5 * (colour + (sky if sky is not None else np.array([170, 190, 210], np.float32)))
    waves = plane.noise(rng, rng.uniform(30, 90), 4, rng.uniform(2.0, 5.0))
    mix = np.clip(0.25 + 0.5 * np.clip(1.2 - 1.5 * plane.scale, 0, 1) + 0.28 * waves, 0, 1.3)
    foam = np.clip(waves - rng.uniform(1.8, 2.8), 0, 1)
    water = _tone(mix, glint - colour)
    water += colour
    return water + foam[..., None] * (235 - water)


def _stones(
    rng: np.random.Generator,
    plane: _Plane,
    image: np.ndarray,
    height: np.ndarray,
    *,
    n: int,
    size: float,
    colour: np.ndarray,
) -> None:
    """Draws `n` stones, far ones first, into `image`, and their domes into `height` (pixels above the ground)."""
    tones = colour * rng.lognormal(0, 0.25, (n, 1)) * (1 + rng.normal(0, 0.025, (n, 3)))
    widths, flats, angles = np.clip(rng.lognormal(0, 0.4, n), 0.4, 2), rng.uniform(0.45, 0.75, n), rng.normal(0, 12, n)
    h, w = height.shape
    for (x, y, scale), tone, width, flat, angle in zip(plane.spots(rng, n), tones, widths, flats, angles, strict=True):
        a = max(size * scale * width, 1.5)
        centre = (round(x * 16), round((y - 0.3 * a * flat) * 16))
        axes = (round(a * 16), round(a * flat * 16))
        cv2.ellipse(image, centre, axes, angle, 0, 360, tone.tolist(), -1, cv2.LINE_8, 4)
        # The dome, as a pile of ever smaller discs, later blurred; it lies on what is there.
        below = 0.7 * height[int(np.clip(y - 0.3 * a * flat, 0, h - 1)), int(np.clip(x, 0, w - 1))]
        for slope in np.linspace(1.5, 0.2, int(np.clip(a / 3, 2, 16))):
            disc = (round(axes[0] * np.sin(slope)), round(axes[1] * np.sin(slope)))
            cv2.ellipse(height, centre, disc, angle, 0, 360, float(below + 0.6 * a * np.cos(slope)), -1, cv2.LINE_8, 4)


def _lit(image: np.ndarray, height: np.ndarray, light: Light) -> np.ndarray:
    """Shades `image` by the relief of `height`; gaps between stones stay dark."""
    smooth = cv2.blur(cv2.blur(height, (5, 5)), (5, 5))
    gx, gy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
    around = cv2.blur(height, (31, 31))
    open_sky = np.clip(0.85 + (smooth - around) / (around + 6), 0.55, 1.1)
    return image * (1.2 * _relief(gx, gy, light, 0.7) * open_sky)[..., None]


def _pebbles(rng: np.random.Generator, plane: _Plane, light: Light) -> np.ndarray:
    colour = rng.uniform(95, 175) * np.array([1.0, rng.uniform(0.93, 0.99), rng.uniform(0.83, 0.97)])
    image = _tone(1 + 0.2 * plane.noise(rng, 14), colour * 0.85)
    height = np.zeros(plane.shape, np.float32)
    _stones(rng, plane, image, height, n=3600, size=rng.uniform(14, 26), colour=colour)
    return _lit(image, height, light) * (1 + 0.08 * plane.noise(rng, 12, 2))[..., None]


def _slab(rng: np.random.Generator, plane: _Plane, light: Light) -> np.ndarray:
    colour = rng.uniform(100, 185) * np.array([1.0, rng.uniform(0.91, 0.99), rng.uniform(0.82, 0.96)])
    h, w = plane.shape
    relief = fractal(rng, plane.shape, w / 4, 4, 2.5) * 14 + plane.noise(rng, 70, 4) * 2
    for _ in range(rng.integers(6, 18)):  # cracks
        steps = np.cumsum(rng.normal([rng.uniform(-8, 8), rng.uniform(-3, 3)], [14, 4], (40, 2)), axis=0)
        line = np.round(steps + np.array([rng.uniform(0, w), rng.uniform(max(plane.horizon, 0), h)])).astype(np.int32)
        cv2.polylines(relief, [line.reshape(-1, 1, 2)], False, float(relief.min()), int(rng.integers(1, 4)))
    relief = cv2.blur(relief, (3, 3))
    image = _tone(1 + 0.12 * plane.noise(rng, 140, 5) + 0.06 * plane.noise(rng, 7, 2), colour)
    stains = np.clip(fractal(rng, plane.shape, h / 5, 4, 2.0) - 1.0, 0, 1)
    gx, gy = cv2.Sobel(relief, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(relief, cv2.CV_32F, 0, 1, scale=1 / 8)
    return image * (_relief(gx, gy, light, 1.0) * (1 - 0.5 * stains))[..., None]


def _boulders(rng: np.random.Generator, plane: _Plane, light: Light) -> np.ndarray:
    colour = rng.uniform(85, 165) * np.array([1.0, rng.uniform(0.93, 0.99), rng.uniform(0.83, 0.97)])
    image = _tone(1 + 0.25 * plane.noise(rng, 50), colour * 0.8)
    height = np.zeros(plane.shape, np.float32)
    _stones(rng, plane, image, height, n=900, size=rng.uniform(10, 18), colour=colour)
    _stones(rng, plane, image, height, n=220, size=rng.uniform(45, 80), colour=colour)
    _stones(rng, plane, image, height, n=150, size=rng.uniform(8, 16), colour=colour)
    height += 2.0 * plane.noise(rng, 40, 4)
    return _lit(image, np.maximum(height, 0), light) * (1 + 0.12 * plane.noise(rng, 30, 4))[..., None]


def _sand(rng: np.random.Generator, plane: _Plane, light: Light) -> np.ndarray:
    colour = rng.uniform(150, 215) * np.array([1.0, rng.uniform(0.86, 0.93), rng.uniform(0.66, 0.8)])
    visible = np.clip(plane.scale * 2 - 0.4, 0, 1)
    ripples = np.sin(plane.far / rng.uniform(9, 16) + 2.5 * plane.noise(rng, 260)) * visible
    return _tone(1 + 0.06 * plane.noise(rng, 300, 4) + 0.05 * ripples + 0.03 * plane.noise(rng, 5, 2), colour)


def _ice(rng: np.random.Generator, plane: _Plane, light: Light) -> np.ndarray:
    colour = np.array([201, 217, 230]) * rng.uniform(0.85, 1.08)
    ridges = 1 - np.clip(np.abs(plane.noise(rng, 200, 4)) * 14, 0, 1)
    snow = 1 + 0.07 * np.clip(plane.noise(rng, 260, 5), -1, 1) + 0.02 * plane.noise(rng, 10)
    return _tone(snow * (1 - 0.3 * ridges), colour)


def _vegetation(rng: np.random.Generator, plane: _Plane, light: Light) -> np.ndarray:
    colour = np.array([rng.uniform(80, 140), rng.uniform(105, 140), rng.uniform(45, 75)])
    image = _tone(1 + 0.14 * plane.noise(rng, 120, 5), colour * 0.7)
    n = 9000
    tones = colour * rng.lognormal(-0.1, 0.25, (n, 1)) * (1 + rng.normal(0, 0.07, (n, 3)))
    lengths, leans = rng.lognormal(0, 0.3, n), rng.normal(0, 0.4, n)
    for (x, y, scale), tone, size, lean in zip(plane.spots(rng, n), tones, lengths, leans, strict=True):
        length = 34 * scale * size
        end = (int(x + lean * length), int(y - length))
        cv2.line(image, (int(x), int(y)), end, tone.tolist(), max(int(2.5 * scale), 1))
    return image


_GROUNDS: dict[str, Callable[[np.random.Generator, _Plane, Light], np.ndarray]] = {
    "pebbles": _pebbles,
    "slab": _slab,
    "boulders": _boulders,
    "sand": _sand,
    "ice": _ice,
    "vegetation": _vegetation,
}
GROUNDS = tuple(_GROUNDS)
