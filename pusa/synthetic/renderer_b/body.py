"""The body of a seal as a triangle mesh: tubes along bent spines, laid on the ground of the world.

World: x to the right of the camera, y up, z away from the camera, in lengths of an adult; the ground is y = 0.
Body: f to the nose, u to the back, l to the left flank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from pusa.synthetic.renderer_b.fields import smooth

STATIONS = 76  # along the body
SPOKES = 44  # around it
FLIPPER = (13, 14)  # stations and spokes of a flipper
SOFT = 0.018  # height over which the ground flattens what lies on it

_S = [0, 0.006, 0.018, 0.04, 0.062, 0.09, 0.115, 0.14, 0.17, 0.23, 0.32, 0.45, 0.58, 0.70, 0.80, 0.88, 0.95, 1]
_R = [4, 14, 23, 31, 45, 54, 55, 54, 57, 76, 104, 124, 125, 110, 84, 58, 36, 8]  # thousandths of the length
_PROFILE = PchipInterpolator(_S, np.array(_R) / 1000)


def radius(s: np.ndarray) -> np.ndarray:
    """Mean radius of an adult at s (0..1), in body lengths."""
    return _PROFILE(s)


@dataclass(frozen=True)
class Build:
    """Proportions of an individual. length: of adults. fat, head, fore, hind: factors around 1."""

    length: float
    fat: float
    head: float
    fore: float
    hind: float


@dataclass(frozen=True)
class Pose:
    """How an animal lies. All angles in degrees.

    x, z: place of the middle of the body. yaw: as in photo.Instance, seen along z. roll: turn about the long axis that
    brings the back towards the left flank. neck, nod: lift of the head and its bend back to level. look, bend: head
    and body to the left. rear: lift of the hind end. sink: depth of the belly under water; 0 = lies on the ground.
    base: height of the ground.
    """

    x: float
    z: float
    yaw: float
    roll: float
    neck: float
    nod: float
    look: float
    bend: float
    rear: float
    sink: float = 0.0
    base: float = 0.0


@dataclass(frozen=True)
class Mesh:
    """points, normals: float32 V x 3, world. skin: float32 V x 3 = s, theta, 1 on the body and 0 on flippers.

    faces: int32 F x 3, the corners counter-clockwise as seen from outside in a right-handed frame.
    """

    points: np.ndarray
    normals: np.ndarray
    skin: np.ndarray
    faces: np.ndarray


def build(identity: int, pup: bool) -> Build:
    """Proportions that belong to a seed. A pup is smaller and rounder, with a larger head."""
    rng = np.random.default_rng([identity, 72])
    length, fat, head, fore, hind = rng.uniform([0.92, 0.88, 0.95, 0.85, 0.85], [1.06, 1.1, 1.08, 1.15, 1.15])
    if pup:
        return Build(0.45 + 0.2 * rng.random(), fat * 1.16, head * 1.3, fore * 1.2, hind * 1.1)
    return Build(length, fat, head, fore, hind)


def axes(pose: Pose) -> np.ndarray:
    """Unit vectors f, u, l of the body in the world: 3 x 3, one a row."""
    yaw, roll = np.radians([pose.yaw, pose.roll])
    f = np.array([-np.cos(yaw), 0, -np.sin(yaw)])
    left = np.array([np.sin(yaw), 0, -np.cos(yaw)])
    up = np.array([0.0, 1.0, 0.0])
    return np.stack([f, np.cos(roll) * up + np.sin(roll) * left, np.cos(roll) * left - np.sin(roll) * up])


def mesh(shape: Build, pose: Pose) -> Mesh:
    """The animal in its place."""
    s = np.linspace(0, 1, STATIONS) ** 1.35  # closer together at the head
    spine, t, u, side = _spine(s, pose)
    r = radius(s) * np.where(s < 0.15, 1, shape.fat ** smooth(s, 0.15, 0.3))
    r = r * (1 + (shape.head - 1) * smooth(s, 0.24, 0.14))
    muzzle = smooth(s, 0.07, 0.03)
    spine = spine - u * (0.013 * muzzle * smooth(s, -0.02, 0.02))[:, None]  # the forehead is steep, the chin flat
    tall, wide = r * (0.97 - 0.05 * smooth(s, 0.2, 0.4)), r * (1.03 + 0.07 * smooth(s, 0.2, 0.4) - 0.06 * muzzle)
    parts = [_tube(spine, u * tall[:, None], side * wide[:, None], SPOKES)]
    at = int(np.searchsorted(s, 0.29))
    for sign in (1, -1):
        out = sign * side[at] * 0.78 - u[at] * 0.62
        root = spine[at] + out * r[at] * 0.93
        along = -0.82 * t[at] + 0.18 * sign * side[at] - 0.5 * u[at]
        parts.append(_flipper(root, along, out, 0.15 * shape.fore, (0.020, 0.034, 0.026)))
    for sign in (1, -1):
        along = -t[-1] + sign * 0.3 * side[-1] + 0.1 * u[-1]
        flat = u[-1] * 0.75 + sign * side[-1] * 0.65
        root = spine[-1] + 0.035 * t[-1] + 0.012 * sign * side[-1]
        parts.append(_flipper(root, along, flat, 0.19 * shape.hind, (0.018, 0.034, 0.055)))
    points = np.concatenate([p.reshape(-1, 3) for p in parts]) * shape.length
    points = points @ axes(pose)
    points[:, 1] -= points[: STATIONS * (SPOKES + 1), 1].min() + (pose.sink or 0.014)
    if not pose.sink:
        points[:, 1] = 0.5 * (points[:, 1] + np.hypot(points[:, 1], SOFT))  # weight flattens the belly
    points += [pose.x, pose.base, pose.z]
    return _assemble(points, s, [p.shape[:2] for p in parts])


def _spine(s: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points of the middle line in f, u, l, with unit vectors to the nose, the back and the left flank: n x 3 each."""
    neck, nod, look, bend, rear = np.radians([pose.neck, pose.nod, pose.look, pose.bend, pose.rear])
    v = neck * smooth(s, 0.38, 0.16) - nod * smooth(s, 0.17, 0.07) - rear * smooth(s, 0.68, 1.0)
    h = look * smooth(s, 0.30, 0.10) + bend * (0.5 - s)
    zero = np.zeros_like(s)
    t = np.stack([np.cos(v) * np.cos(h), np.sin(v), np.cos(v) * np.sin(h)], 1)
    u = np.stack([-np.sin(v) * np.cos(h), np.cos(v), -np.sin(v) * np.sin(h)], 1)
    side = np.stack([-np.sin(h), zero, np.cos(h)], 1)
    steps = 0.5 * (t[1:] + t[:-1]) * np.diff(s)[:, None]
    line = np.concatenate([[[0, 0, 0]], -np.cumsum(steps, 0)])
    return line - line[np.searchsorted(s, 0.5)], t, u, side


def _tube(line: np.ndarray, a: np.ndarray, b: np.ndarray, spokes: int) -> np.ndarray:
    """Points around a line, from a over b: n x (spokes + 1) x 3. The last spoke lies on the first, as theta 1 on 0."""
    turn = np.linspace(0, 2 * np.pi, spokes + 1)[None, :, None]
    return line[:, None] + np.cos(turn) * a[:, None] + np.sin(turn) * b[:, None]


def _flipper(
    root: np.ndarray, along: np.ndarray, flat: np.ndarray, length: float, widths: tuple[float, float, float]
) -> np.ndarray:
    """A flat blade from its root. flat: roughly at right angles to the blade. widths: half, at root, middle and tip."""
    stations, spokes = FLIPPER
    q = np.linspace(0, 1, stations)
    along = along / np.linalg.norm(along)
    flat = flat - along * (flat @ along)
    flat = flat / np.linalg.norm(flat)
    across = np.cross(along, flat)
    half = np.interp(q, [0, 0.5, 1], widths) * np.sqrt(np.clip(1 - (q - 0.02) ** 8, 0.01, 1))
    thick = 0.013 * (1 - 0.75 * q)
    line = root + np.outer(q * length, along)
    return _tube(line, np.outer(thick, flat), np.outer(half, across), spokes)


def _assemble(points: np.ndarray, s: np.ndarray, grids: list[tuple[int, ...]]) -> Mesh:
    """Normals, skin coordinates and faces of grids of points that follow each other in `points`."""
    normals, skin, faces, first = [], [], [], 0
    for k, (n, m) in enumerate(grids):
        grid = points[first : first + n * m].reshape(n, m, 3)
        normal, triangles = surface(grid)
        normals.append(normal.reshape(-1, 3))
        faces.append(triangles + first)
        part = np.zeros((n, m, 3))
        if k == 0:
            part[..., 0], part[..., 1], part[..., 2] = s[:, None], np.linspace(0, 1, m), 1
        else:
            part[..., 0], part[..., 1] = np.linspace(0, 1, n)[:, None], np.linspace(0, 1, m)
        skin.append(part.reshape(-1, 3))
        first += n * m
    return Mesh(
        points.astype(np.float32),
        np.concatenate(normals).astype(np.float32),
        np.concatenate(skin).astype(np.float32),
        np.concatenate(faces).astype(np.int32),
    )


def surface(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (n x m x 3, outwards) and triangles (int, 2(n-1)(m-1) x 3) of a tube of points n x m x 3."""
    n, m = grid.shape[:2]
    along = np.gradient(grid, axis=0)
    ring = np.concatenate([grid[:, -2:-1], grid, grid[:, 1:2]], 1)
    around = ring[:, 2:] - ring[:, :-2]
    normal = np.cross(along, around)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True) + 1e-12
    outwards = ((grid - grid.mean(1, keepdims=True)) * normal).sum() > 0
    i = (np.arange(n - 1)[:, None] * m + np.arange(m - 1)).ravel()
    corners = np.stack([i, i + m, i + 1, i + 1, i + m, i + m + 1], 1).reshape(-1, 3)
    return (normal, corners) if outwards else (-normal, corners[:, ::-1])
