"""What lies about on a shore and may hide an animal: boulders, blocks of ice, heaps of snow, slabs, and reeds."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pusa.synthetic.renderer_b.body import Mesh, surface
from pusa.synthetic.renderer_b.camera import Camera
from pusa.synthetic.renderer_b.fields import f32, fur, sample, smooth
from pusa.synthetic.renderer_b.light import Light

RINGS, SPOKES = 40, 56  # of the mesh of a stone
SLAB = 0.16  # body lengths from the water up to the top of a slab that a seal lies on


@dataclass(frozen=True)
class Stone:
    """A stone and its reflectance: colour (3), grain (how strong the texture is), snow (0..1, how much lies on it)."""

    mesh: Mesh
    colour: np.ndarray
    grain: float
    snow: float


@dataclass(frozen=True)
class Reeds:
    """A clump of reeds around x, z in the world. blades: rows of x, z, lean, height in body lengths, and brightness."""

    blades: np.ndarray
    z: float


def stone(rng: np.random.Generator, kind: str, place: tuple[float, float], size: np.ndarray, top: float = 9.0) -> Stone:
    """A stone that suits the ground. place: world x, z. size: half axes x, y, z. top: height where it is cut flat."""
    polar = np.linspace(0.02, np.pi - 0.02, RINGS)[:, None]
    turn = np.linspace(0, 2 * np.pi, SPOKES + 1)[None]
    ball = np.stack(
        [
            np.sin(polar) * np.cos(turn),
            np.broadcast_to(np.cos(polar), (RINGS, SPOKES + 1)),
            np.sin(polar) * np.sin(turn),
        ],
        -1,
    )
    swell = np.zeros(ball.shape[:2])
    for _ in range(9):  # plane waves through the ball: no seam where the turn closes
        k = rng.normal(0, 2.6, 3)
        swell += np.sin(ball @ k + rng.uniform(0, 6.3)) / (1 + np.linalg.norm(k))
    for _ in range(12):  # broken faces
        face = rng.normal(0, 1, 3)
        face /= np.linalg.norm(face)
        ball -= np.maximum(ball @ face - rng.uniform(0.55, 0.85), 0)[..., None] * face * 0.93
    grid = ball * (1 + 0.13 * swell[..., None]) * size
    grid[..., 1] = np.where(grid[..., 1] > top, top + 0.06 * (grid[..., 1] - top), grid[..., 1])
    grid += [place[0], 0, place[1]]
    normals, faces = surface(grid)
    points, normals = f32(grid.reshape(-1, 3)), f32(normals.reshape(-1, 3))
    mesh = Mesh(points, normals, np.zeros_like(points), faces.astype(np.int32))
    if kind in ("ice", "snow"):
        return Stone(mesh, np.array([0.62, 0.68, 0.72]) * rng.uniform(0.8, 1.1), 0.08, 0.9)
    colour = np.array([1.0 + rng.uniform(0, 0.15), 0.98, 0.93]) * rng.uniform(0.1, 0.3)
    return Stone(mesh, colour, 0.3, 0.0)


def stone_colours(item: Stone, points: np.ndarray, normals: np.ndarray, light: Light) -> np.ndarray:
    """Light that points of a stone (N x 3, with normals) send to the camera: N x 3."""
    across, up = points[:, 0] * 380 + points[:, 2] * 150, points[:, 1] * 380 + points[:, 2] * 210
    grain = 0.5 * sample(fur(), 0.3 * across, up * 1.3) + 0.6 * sample(fur(), 0.09 * up, 0.11 * across)
    colour = item.colour * np.clip(1 + item.grain * grain, 0.3, 2)[:, None]
    snow = item.snow * smooth(normals[:, 1] + 0.1 * grain, 0.1, 0.5)[:, None]
    colour = colour * (1 - snow) + 0.82 * snow
    damp = 1 - 0.5 * (1 - item.snow) * smooth(points[:, 1] + 0.01 * grain, 0.07, 0.03)
    shade = 0.4 + 0.6 * smooth(points[:, 1], -0.02, 0.1)
    return f32(colour * (damp * shade)[:, None] * light.irradiance(normals))


def reeds(rng: np.random.Generator, x: float, z: float, width: float, number: int) -> Reeds:
    """A clump of `number` blades, `width` body lengths wide."""
    blades = np.stack(
        [
            x + width * rng.uniform(-0.5, 0.5, number),
            z + rng.normal(0, 0.05, number),
            rng.normal(0.06, 0.12, number),
            rng.uniform(0.2, 0.75, number),
            rng.uniform(0.5, 1.3, number),
        ],
        1,
    )
    return Reeds(blades, z)


def draw_reeds(clump: Reeds, camera: Camera, light: Light, colour: np.ndarray, depth: np.ndarray) -> None:
    """Draws a clump into the picture (H x W x 3) and the depth (H x W), both changed in place."""
    up = np.linspace(0, 1, 7)
    sky = light.irradiance(np.array([[0.0, 0.5, -0.87]], np.float32))[0]
    straw = np.array([0.27, 0.22, 0.12]) * sky
    drawn = np.zeros(depth.shape, np.uint8)
    for x, z, lean, height, grey in clump.blades:
        points = np.stack([x + lean * height * up**2, height * up, np.full(7, z)], 1)
        pixels, far = camera.project(points)
        line = np.round(pixels * 16).astype(np.int32).reshape(-1, 1, 2)
        thick = 0.009 * camera.focal / float(far[0])
        paint = straw * grey * light.reach(far[:1], camera.distance)
        for part, share in ((line[:3], 1.0), (line[2:6], 0.7), (line[5:], 0.4)):  # blades taper
            wide = max(1, round(share * thick))
            shade = paint * (0.8 if share == 1 else 1.1 - 0.2 * share)
            cv2.polylines(colour, [part], False, shade.tolist(), wide, cv2.LINE_AA, 4)
            cv2.polylines(drawn, [part], False, 255, wide, cv2.LINE_8, 4)
    middle = np.array([[clump.blades[:, 0].mean(), 0.2, clump.z]])
    depth[drawn > 0] = np.minimum(depth[drawn > 0], camera.project(middle)[1][0])
