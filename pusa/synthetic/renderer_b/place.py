"""The place without the animals: ground, water, far shore and sky as the camera sees them, then stones and reeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pusa.synthetic.renderer_b.camera import Camera, Fragments, rasterize
from pusa.synthetic.renderer_b.fields import f32, sample, smooth, spectral
from pusa.synthetic.renderer_b.ground import Ground
from pusa.synthetic.renderer_b.light import Light
from pusa.synthetic.renderer_b.stones import Reeds, Stone, draw_reeds, stone_colours
from pusa.synthetic.renderer_b.terrain import Spot, paint_terrain

COARSE = 4  # shadows are worked out on every fourth pixel


@dataclass(frozen=True)
class Canvas:
    """colour: float32 H x W x 3, linear light. depth: float32 H x W, of stones and reeds; inf on the ground.

    water: float32 H x W, 0 = land, 1 = water.
    """

    colour: np.ndarray
    depth: np.ndarray
    water: np.ndarray


def paint_place(
    rng: np.random.Generator,
    camera: Camera,
    ground: Ground,
    light: Light,
    spots: Sequence[Spot],
    stones: Sequence[Stone],
    clumps: Sequence[Reeds],
) -> Canvas:
    """Paints it. spots: where the animals are; the water line goes around them."""
    colour = np.zeros((camera.height, camera.width, 3), np.float32)
    water = np.zeros((camera.height, camera.width), np.float32)
    first = paint_terrain(rng, camera, ground, light, spots, colour, water)
    _sky(rng, camera, light, colour, first)
    hidden = np.full((camera.height, camera.width), np.inf, np.float32)
    whole = (0, 0, camera.width, camera.height)
    for item in stones:
        shadow(colour, camera, item.mesh.points, item.mesh.faces, light, 0.0)
    for item in sorted(stones, key=lambda i: -i.mesh.points[:, 2].mean()):
        pixels, far = camera.project(item.mesh.points)
        got = rasterize(pixels, far, item.mesh.faces, whole)
        above = got.mix(item.mesh.points)[:, 1] > 0
        got = Fragments(*(a[above] for a in (got.x, got.y, got.depth, got.corners, got.weights)))
        shades = stone_colours(item, got.mix(item.mesh.points), got.mix(item.mesh.normals), light)
        shades *= light.reach(got.depth, camera.distance)[:, None]
        blend(colour, got.x, got.y, shades, 0.8)
        hidden[got.y, got.x] = np.minimum(hidden[got.y, got.x], got.depth)
    for clump in sorted(clumps, key=lambda c: -c.z):
        draw_reeds(clump, camera, light, colour, hidden)
    return Canvas(colour, hidden, water)


def shadow(
    colour: np.ndarray,
    camera: Camera,
    points: np.ndarray,
    faces: np.ndarray,
    light: Light,
    base: float,
    move: np.ndarray | None = None,
    where: np.ndarray | None = None,
) -> None:
    """Darkens the ground at height `base` under a mesh: the cast shadow, and the dim light below what lies there.

    colour: changed in place. move: 2 x 3, from the pixels of the camera to those of `colour`. where: 0..1 H x W, where
    the shadow may fall.
    """
    height, width = colour.shape[:2]
    limits = (0, 0, -(-width // COARSE), -(-height // COARSE))
    overhead = light.sun.mean() * light.toward[1]
    sun_share = overhead / (overhead + (0.65 * light.zenith + 0.35 * light.rim).mean())
    up = np.array([0.0, 1.0, 0.0])
    factor = np.ones((limits[3], limits[2]), np.float32)
    for toward, strength, soft in ((light.toward, 0.85 * sun_share, 0.02), (up, 0.6 * (1 - sun_share), 0.06)):
        rise = np.maximum(points[:, 1:2] - base, 0)
        flat = points - rise * toward / max(toward[1], 0.15)
        pixels, far = camera.project(flat)
        if move is not None:
            pixels = pixels @ move[:, :2].T + move[:, 2]
        got = rasterize(pixels / COARSE, far, faces, limits)
        mask = np.zeros_like(factor)
        mask[got.y, got.x] = 1
        sigma = max(soft * camera.focal / float(far.mean()) / COARSE, 0.6)
        factor *= 1 - strength * cv2.GaussianBlur(mask, (0, 0), sigma)
    full = cv2.resize(factor, (width, height), interpolation=cv2.INTER_LINEAR)
    if where is not None:
        full = 1 - (1 - full) * where
    colour *= full[..., None]


def blend(colour: np.ndarray, x: np.ndarray, y: np.ndarray, values: np.ndarray, soft: float) -> None:
    """Paints `values` (N x 3) at pixels x, y into `colour`, with an outline as soft as a sigma of `soft` pixels."""
    if not len(x):
        return
    pad = 4
    x0, y0 = max(int(x.min()) - pad, 0), max(int(y.min()) - pad, 0)
    x1, y1 = min(int(x.max()) + pad + 1, colour.shape[1]), min(int(y.max()) + pad + 1, colour.shape[0])
    layer = np.zeros((y1 - y0, x1 - x0, 4), np.float32)
    layer[y - y0, x - x0, :3] = values
    layer[y - y0, x - x0, 3] = 1
    wide = cv2.GaussianBlur(layer, (0, 0), soft)
    inside = layer[..., 3:] > 0
    paint = np.where(inside, layer[..., :3], wide[..., :3] / np.maximum(wide[..., 3:], 1e-3))
    view = colour[y0:y1, x0:x1]
    view += wide[..., 3:] * (paint - view)


def _sky(rng: np.random.Generator, camera: Camera, light: Light, colour: np.ndarray, first: int) -> None:
    """Sky with clouds and the forest of the far shore above the horizon; `colour` is changed in place."""
    if first == 0:
        return
    up = (camera.horizon - np.arange(first)[:, None]) / camera.focal
    clouds = spectral(rng, (256, 512), 10, 200, stretch=3)
    rows = np.clip(np.log1p(40 * np.maximum(up, 0)) * 60, 0, 255)
    columns = np.broadcast_to(np.arange(camera.width) * 0.25, (first, camera.width))
    white = smooth(sample(clouds, columns.ravel(), np.broadcast_to(rows, columns.shape).ravel()), 0, 2)
    sky = light.sky(np.broadcast_to(up, columns.shape)) + 0.35 * white.reshape(columns.shape)[..., None] * light.rim
    ridge = spectral(rng, (64, 1024), 2, 60)[0]
    trees = 0.009 + 0.0025 * np.interp(np.arange(camera.width) / 2.2, np.arange(1024), ridge) * rng.uniform(0.4, 1.3)
    forest = smooth(up, trees + 0.001, trees - 0.001)[..., None]
    dark = 0.35 * light.rim * (0.35 if not light.flash else 0.2) + f32([0.01, 0.02, 0.012])
    colour[:first] = sky * (1 - forest) + dark * forest
