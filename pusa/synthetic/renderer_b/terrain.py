"""Ground and water as far as the horizon, laid out in perspective band by band, which keeps memory low."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pusa.synthetic.renderer_b.camera import Camera
from pusa.synthetic.renderer_b.fields import blurred, f32, sample, smooth, spectral
from pusa.synthetic.renderer_b.ground import TILE, Ground
from pusa.synthetic.renderer_b.light import Light

BAND = 96  # rows
COARSE = 4  # the water line is worked out on every fourth pixel
LEVELS = 4  # of a tile, each half as large as the one before, against shimmer far away
POOL = 0.62  # body lengths: reach of the water around an animal that swims, or of the land under one that does not

Spot = tuple[float, float, bool]  # world x, z of an animal, and whether it swims


@dataclass(frozen=True)
class Terrain:
    """levels: shaded tiles of the ground. patches: float32 tile of large lighter and darker areas. waves: float32 tile.

    unit: pixels of the first level per body length. damp: whether land is dark next to water.
    """

    levels: list[np.ndarray]
    patches: np.ndarray
    waves: np.ndarray
    unit: float
    damp: bool


def tile_unit(camera: Camera) -> float:
    """Pixels of a ground tile per body length: about as many as the photo shows."""
    return 1.1 * camera.focal / camera.distance


def paint_terrain(
    rng: np.random.Generator,
    camera: Camera,
    ground: Ground,
    light: Light,
    spots: Sequence[Spot],
    colour: np.ndarray,
    water: np.ndarray,
) -> int:
    """Paints ground and water into `colour` (float32 H x W x 3) and the share of water into `water` (float32 H x W).

    Returns the first row below the horizon.
    """
    first = int(np.clip(np.ceil(camera.horizon + 1), 0, camera.height))
    unit = tile_unit(camera)
    levels = [ground.shaded(light)]
    while len(levels) < LEVELS:
        levels.append(np.ascontiguousarray(blurred(levels[-1], 1.1)[::2, ::2]))
    size = rng.uniform(0.05, 0.25) * unit
    waves = spectral(rng, (TILE, TILE), size / 5, size * 2, stretch=rng.uniform(1.5, 3.5)) * rng.uniform(0.25, 0.8)
    patches = spectral(rng, (256, 256), 24, 256)
    terrain = Terrain(levels, patches, waves, unit, ground.kind != "ice")
    wet = _wet(rng, camera, ground, unit, first, spots)
    for top in range(first, camera.height, BAND):
        rows = slice(top, min(top + BAND, camera.height))
        _band(camera, light, terrain, wet[top - first : rows.stop - first], rows, colour, water)
    return first


def _band(
    camera: Camera, light: Light, terrain: Terrain, wet: np.ndarray, rows: slice, colour: np.ndarray, water: np.ndarray
) -> None:
    """Paints some rows. wet: how far their pixels are beyond the water line, above 0 = water."""
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    gx, gz, depth = camera.ground(np.arange(camera.width, dtype=np.float32)[None], y)
    step = np.abs(camera.ground(np.zeros(1), y + 1)[1] - gz)[:, 0]  # body lengths of ground in a row of pixels
    gz = np.broadcast_to(gz, gx.shape)
    tx, tz = gx.ravel() * terrain.unit, gz.ravel() * terrain.unit
    land = colour[rows]
    level = np.clip(np.log2(np.maximum(step * terrain.unit, 1e-3)) * 0.5, 0, LEVELS - 1.001)
    for k, tile in enumerate(terrain.levels):
        share = f32(np.maximum(1 - np.abs(level - k), 0))
        if share.any():
            land += share[:, None, None] * sample(tile, tx / 2**k, tz / 2**k).reshape(land.shape)
    patches = sample(terrain.patches, gx.ravel() * 23, gz.ravel() * 23).reshape(gx.shape)
    land *= (1 + 0.13 * patches)[..., None]  # hides that the tile repeats
    far = np.clip(1.3 * camera.distance / depth, 0.1, 1)  # waves far away fall into one pixel
    waves = sample(terrain.waves, tx, tz).reshape(gx.shape) * far
    edge = wet + 0.015 * waves
    water[rows] = smooth(edge, 0.0, 0.03)
    if terrain.damp:
        land *= 1 - 0.45 * smooth(wet, -0.22, -0.05)[..., None]
    row, column = np.nonzero(water[rows])
    mirror = _water(camera, light, waves[row, column], y[row, 0])
    shallow = 0.3 * smooth(edge[row, column], 0.9, 0.0)[:, None]
    share = water[rows][row, column][:, None]
    land[row, column] += share * (mirror * (1 - shallow) + land[row, column] * (0.6 * shallow - 1))
    land *= light.reach(depth, camera.distance)[..., None]


def _wet(
    rng: np.random.Generator, camera: Camera, ground: Ground, unit: float, first: int, spots: Sequence[Spot]
) -> np.ndarray:
    """How far each pixel below row `first` is beyond the water line, above 0 = water: float32 rows x W."""
    x = np.arange(0, camera.width, COARSE, dtype=np.float32)[None]
    y = np.arange(first, camera.height, COARSE, dtype=np.float32)[:, None]
    angle = rng.normal(0, 0.5) + (np.pi if rng.random() < 0.3 else 0)  # the lake lies beyond, or on this side
    if not len(y):
        return np.zeros((0, camera.width), np.float32)
    gx, gz, _ = camera.ground(x, y)
    gz = np.broadcast_to(gz, gx.shape)
    wet = sample(ground.low, gx.ravel() * unit, gz.ravel() * unit).reshape(gx.shape)
    slope = (gz - camera.distance * np.cos(camera.pitch)) * np.cos(angle) + gx * np.sin(angle)
    wet = wet + ground.shore + 0.5 * np.clip(slope, -3, 6) * (abs(ground.shore) < 1.5)
    for sx, sz, swims in sorted(spots, key=lambda spot: spot[2]):  # swimmers last: a pool wins over land beside it
        pull = np.exp(-(np.square(gx - sx) + np.square(gz - sz)) / (2 * POOL**2))
        goal = 1.1 if swims else (ground.shore if ground.kind == "water" else -0.9)
        wet = wet + pull * (goal - wet)
    return cv2.resize(f32(wet), (camera.width, camera.height - first), interpolation=cv2.INTER_LINEAR)


def _water(camera: Camera, light: Light, waves: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Colour of open water (N x 3) at rows y (N): a dark green, and the sky that it mirrors at a grazing look."""
    v = (y - (camera.height - 1) / 2) / camera.focal
    down = np.sin(np.arctan(v) + camera.pitch)
    steep = np.clip(f32(down) + 0.16 * waves, 0.02, 1)
    grazing = np.square(1 - steep)
    mirror = 0.03 + 0.65 * grazing * grazing * (1 - steep)
    body = f32([0.028, 0.042, 0.042]) * light.irradiance(f32(np.array([[0, 1, 0]])))[0]
    against = 2 * max(float(light.toward[2]), 0)  # sparks where the sun stands beyond the water
    return mirror[:, None] * light.sky(steep) + body + (against * smooth(waves, 0.75, 1.3))[:, None] * light.sun
