"""A seal's body: a spindle with flippers on a bent axis, drawn orthographically into a map of coat coordinates.

Coat coordinates: s runs from the nose (0) to the root of the tail (1); theta runs around the body, 0 = back,
pi/2 = left flank, pi = belly, 3 pi/2 = right flank. World axes: x to the right of the photo, y away from the camera,
z up; unit: one body length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

GIRTH = 0.14  # largest radius of an average animal, in body lengths (Pusa hispida: girth about 0.85 of the length)
TRUNK, FLIPPER = 1, 2

# Radius along the body, as a share of the largest one: small round head, short neck, tapering tail.
_OUTLINE = PchipInterpolator(
    [0.0, 0.006, 0.025, 0.06, 0.10, 0.14, 0.19, 0.27, 0.38, 0.5, 0.62, 0.75, 0.86, 0.94, 0.985, 1.0],
    [0.0, 0.13, 0.25, 0.40, 0.51, 0.55, 0.61, 0.78, 0.96, 1.0, 0.93, 0.73, 0.48, 0.27, 0.17, 0.05],
)
_S = np.linspace(0, 1, 2001)
_PROFILE = _OUTLINE(_S)  # looked up: a call of the spline takes 50 times as long
_COARSE = (161, 49)  # grid on which the surface is computed (along, around); it is then enlarged to the pixels
_OVERSAMPLING = 1.5  # surface points per pixel along each direction; fewer leave holes


@dataclass(frozen=True)
class Shape:
    """Proportions of one animal: `girth` = largest radius in body lengths, `head` = size of the head (1 = average)."""

    girth: float = GIRTH
    head: float = 1.0


@dataclass(frozen=True)
class Pose:
    """How an animal lies, angles in degrees.

    yaw: 0 = nose to the photo's left (left flank seen), 90 = nose to the camera, 180 = right flank seen, 270 = tail to
    the camera. roll: positive turns the back to the animal's left. bend: curvature of the axis sideways, nose against
    tail. nod: how far the head is lifted. tail: how far the hind flippers are lifted.
    """

    yaw: float = 0.0
    roll: float = 0.0
    bend: float = 0.0
    nod: float = 0.0
    tail: float = 0.0


@dataclass(frozen=True)
class View:
    """An animal as the camera sees it, on the pixels of the box that starts at (x0, y0) of the photo.

    mask: bool h x w. part: uint8 h x w, 0 = nothing, 1 = trunk, 2 = flipper. s in 0..1 and theta in 0..2 pi: float32
    h x w, coat coordinates. normal: float32 h x w x 3, unit length, world axes. facing: float32 h x w, cosine between
    normal and line of sight. height: float32 h x w, above the ground, in body lengths.
    """

    x0: int
    y0: int
    mask: np.ndarray
    part: np.ndarray
    s: np.ndarray
    theta: np.ndarray
    normal: np.ndarray
    facing: np.ndarray
    height: np.ndarray


def radius(s: np.ndarray | float) -> np.ndarray:
    """Radius at s, as a share of the largest radius (0..1)."""
    return np.interp(s, _S, _PROFILE)


def to_camera(elevation: float) -> np.ndarray:
    """Unit vector from the scene to a camera that looks down by `elevation` degrees; world axes."""
    e = np.radians(elevation)
    return np.array([0.0, -np.cos(e), np.sin(e)])


def side(pose: Pose, elevation: float) -> str:
    """Which side faces the camera: left, right, front, back, up (the back seen from above) or down (the belly)."""
    forward, left, up = _basis(pose.yaw)
    roll = np.radians(pose.roll)
    camera = to_camera(elevation)
    ahead, across, above = forward @ camera, left @ camera, up @ camera
    # Components in the rolled body: its back lies at angle `roll` from straight up, towards its left.
    dorsal, lateral = above * np.cos(roll) + across * np.sin(roll), across * np.cos(roll) - above * np.sin(roll)
    names = ("front", "back"), ("left", "right"), ("up", "down")
    values = np.array([ahead, lateral, dorsal])
    axis = int(np.argmax(np.abs(values)))
    return names[axis][int(values[axis] < 0)]


def render(
    shape: Shape, pose: Pose, length: float, at: tuple[float, float], *, elevation: float, turn: float = 0.0
) -> View:
    """Draws one animal whose middle touches the ground at pixel `at` (x, y); `length` = pixels per body length.

    `elevation`: how far the camera looks down; `turn`: clockwise turn in the photo's plane; both in degrees.
    """
    camera = to_camera(elevation)
    e, a = np.radians(elevation), np.radians(turn)
    across, along = np.array([1.0, 0, 0]), np.array([0, -np.sin(e), -np.cos(e)])  # the photo's x and y, untwisted
    right, down = np.cos(a) * across - np.sin(a) * along, np.sin(a) * across + np.cos(a) * along
    surfaces = list(_surfaces(shape, pose))
    found: list[tuple[np.ndarray, ...]] = []  # per surface: pixel x, y, depth, surface number, grid column and row
    for number, surface in enumerate(surfaces):
        points, facing = surface.points, surface.normals @ camera
        screen = np.stack([points @ right, points @ down, -(points @ camera)], axis=-1) * length + [*at, 0.0]
        my, mx = surface.grid(length)
        dense = cv2.remap(np.dstack([screen, facing]).astype(np.float32), mx, my, cv2.INTER_LINEAR)
        front = dense[..., 3] > 0
        right_of, below, depth, _ = dense[front].T
        owner = np.full(len(depth), number, np.uint8)
        found.append((right_of, below, depth, owner, mx[front], my[front]))
    x, y, depth, owner, mx, my = (np.concatenate(column) for column in zip(*found, strict=True))
    x, y = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    x0, y0 = int(x.min()), int(y.min())
    w, h = int(x.max()) - x0 + 1, int(y.max()) - y0 + 1
    # Painter's algorithm: far points first, so that near ones overwrite them. 16-bit depths sort by radix.
    order = np.argsort(((depth.max() - depth) * (60000 / max(np.ptp(depth), 1e-6))).astype(np.uint16), kind="stable")
    picked = np.full((h, w), -1, np.int64)
    picked.ravel()[((y - y0) * w + (x - x0))[order]] = order
    mask = picked >= 0
    owner, mx, my = owner[picked], mx[picked], my[picked]  # per pixel; where nothing is, the last point: masked below
    part = np.zeros((h, w), np.uint8)
    values = np.zeros((h, w, 6), np.float32)
    for k, surface in enumerate(surfaces):
        mine = mask & (owner == k)
        part[mine] = surface.part
        high = surface.points[..., 2:]
        for layer, maps in ((slice(0, 2), surface.coordinates), (slice(2, 6), np.dstack([surface.normals, high]))):
            seen = cv2.remap(maps.astype(np.float32), mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            values[..., layer][mine] = seen[mine]
    normal, height = values[..., 2:5], values[..., 5]
    normal /= np.maximum(np.sqrt(np.einsum("hwc,hwc->hw", normal, normal)), 1e-6)[..., None]
    return View(x0, y0, mask, part, values[..., 0], values[..., 1], normal, normal @ camera.astype(np.float32), height)


@dataclass(frozen=True)
class _Surface:
    """A closed tube on a coarse grid (along, around): points and outward normals (n, m, 3) in world axes, coordinates
    s and theta (n, m, 2). size: its extent (along, around) in body lengths.
    """

    points: np.ndarray
    normals: np.ndarray
    coordinates: np.ndarray
    part: int
    size: tuple[float, float]

    def grid(self, length: float) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns (float32 maps) of so many points of the surface that every pixel gets one."""
        rows, cols = (max(int(_OVERSAMPLING * extent * length), 8) for extent in self.size)
        n, m = self.points.shape[:2]
        along, around = np.linspace(0, n - 1, rows, dtype=np.float32), np.linspace(0, m - 1, cols, dtype=np.float32)
        return np.repeat(along[:, None], cols, axis=1), np.repeat(around[None], rows, axis=0)


def _basis(yaw: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forward, left and up of an animal, in world axes."""
    y = np.radians(yaw)
    return (
        np.array([-np.cos(y), -np.sin(y), 0.0]),
        np.array([np.sin(y), -np.cos(y), 0.0]),
        np.array([0.0, 0.0, 1.0]),
    )


def _stations(n: int) -> np.ndarray:
    """`n` positions s, evenly spaced along the outline: so the steep nose gets as many points as it needs."""
    outline = np.concatenate([[0], np.cumsum(np.hypot(np.diff(_S), GIRTH * np.diff(_PROFILE)))])
    return np.interp(np.linspace(0, outline[-1], n), outline, _S)


def _surfaces(shape: Shape, pose: Pose) -> Iterator[_Surface]:
    """Trunk and flippers; the ground is at z = 0 below the middle of the body."""
    forward, left, up = _basis(pose.yaw)
    n, m = _COARSE
    s = _stations(n)
    theta = np.linspace(0, 2 * np.pi, m)
    r = shape.girth * radius(s) * (1 + (shape.head - 1) * np.clip(1 - s / 0.2, 0, 1))
    # The axis: heading turns by `bend` along the body; head and tail are lifted.
    heading = np.radians(pose.bend) * (0.5 - s)
    lift = np.radians(pose.nod) * np.clip((0.34 - s) / 0.2, 0, 1) - np.radians(pose.tail) * np.clip(
        (s - 0.75) / 0.2, 0, 1
    )
    tangent = (np.cos(lift) * np.cos(heading))[:, None] * forward + (np.cos(lift) * np.sin(heading))[:, None] * left
    tangent = tangent + np.sin(lift)[:, None] * up
    axis = -np.cumsum(tangent * np.gradient(s)[:, None], axis=0)
    axis -= axis[n // 2]
    resting = gaussian_filter1d(radius(np.clip(s, 0.22, 0.85)), n / 20, mode="nearest")
    axis[:, 2] += 0.86 * shape.girth * resting - 0.02
    across = np.cross(up, tangent)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    above = np.cross(tangent, across)
    # Rolling turns the coat around the axis; the belly, whichever part that is, is flattened by the ground.
    angle = theta + np.radians(pose.roll)
    height, width = np.cos(angle), np.sin(angle)
    height = np.where(height < 0, 0.84 * height, height)
    points = axis[:, None] + r[:, None, None] * (
        height[None, :, None] * above[:, None] + 1.04 * width[None, :, None] * across[:, None]
    )
    coordinates = np.stack(np.meshgrid(s, theta, indexing="ij"), axis=-1)
    yield _Surface(points, _normals(points), coordinates, TRUNK, (1.15, 2 * np.pi * 1.1 * shape.girth))

    def spot(where: float, around: float, depth: float) -> np.ndarray:
        i = int(np.searchsorted(s, where))
        a = around + np.radians(pose.roll)
        return axis[i] + depth * r[i] * (0.9 * np.cos(a) * above[i] + np.sin(a) * across[i])

    for sign in (1, -1):  # left, right
        i = int(np.searchsorted(s, 0.33))
        a = sign * 2.1 + np.radians(pose.roll)
        outward = np.cos(a) * above[i] + np.sin(a) * across[i]
        long = -0.75 * tangent[i] + 0.3 * outward - 0.45 * above[i] * np.cos(np.radians(pose.roll))
        wide = np.cross(outward, long)
        yield _lobe(spot(0.33, sign * 2.1, 0.95), long, wide, (0.13, 0.05, 0.018), 0.33)
        back = -tangent[-1] + sign * 0.25 * across[-1] + 0.05 * above[-1]
        fan = above[-1] + sign * 0.5 * across[-1]
        yield _lobe(axis[-3], back, fan, (0.17, 0.06, 0.02), 0.97)


def _lobe(root: np.ndarray, long: np.ndarray, wide: np.ndarray, size: tuple[float, float, float], s: float) -> _Surface:
    """A flipper: a flat drop that starts at `root` and points along `long`; `size` = length, width, thickness."""
    long = long / np.linalg.norm(long)
    wide = wide - (wide @ long) * long
    wide /= np.linalg.norm(wide)
    flat = np.cross(long, wide)
    u, v = np.linspace(0, 1, 25), np.linspace(0, 2 * np.pi, 25)
    outline = np.sqrt(np.clip(u, 0, 1)) * np.sqrt(np.clip(1 - u**3, 0, 1)) * 0.75  # wider towards the tip
    points = (
        root
        + (u * size[0])[:, None, None] * long
        + (outline * size[1])[:, None, None] * np.cos(v)[None, :, None] * wide
        + (outline * size[2])[:, None, None] * np.sin(v)[None, :, None] * flat
    )
    coordinates = np.stack(np.meshgrid(np.full(25, s), v, indexing="ij"), axis=-1)
    return _Surface(points, _normals(points), coordinates, FLIPPER, (1.2 * size[0], 4 * size[1]))


def _normals(points: np.ndarray) -> np.ndarray:
    """Outward unit normals of a closed tube of points (along, around, 3)."""
    along = np.gradient(points, axis=0)
    closed = np.concatenate([points[:, -2:-1], points, points[:, 1:2]], axis=1)
    around = (closed[:, 2:] - closed[:, :-2]) / 2
    normal = np.cross(around, along)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    outward = points - points.mean(axis=1, keepdims=True)
    return normal if (normal * outward).sum() > 0 else -normal
