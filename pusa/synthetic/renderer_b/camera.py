"""A pinhole camera that looks down on the ground, and a z-buffer of triangles without a loop over them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

NEAREST = 0.2  # body lengths; what is closer to the camera is not drawn


@dataclass(frozen=True)
class Camera:
    """focal: pixels. pitch: radians that it looks down. distance: to the ground in the middle, in body lengths.

    width, height: pixels of the picture. The camera stands at x = 0, z = 0.
    """

    focal: float
    pitch: float
    distance: float
    width: int
    height: int

    @property
    def place(self) -> np.ndarray:
        """Where it stands in the world."""
        return np.array([0, self.distance * np.sin(self.pitch), 0])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (V x 2, x and y, centres at whole numbers) and depth along the line of sight (V) of world points."""
        sin, cos = np.sin(self.pitch), np.cos(self.pitch)
        q = points - self.place
        depth = np.maximum(-sin * q[:, 1] + cos * q[:, 2], NEAREST)
        down = -cos * q[:, 1] - sin * q[:, 2]
        x = (self.width - 1) / 2 + self.focal * q[:, 0] / depth
        y = (self.height - 1) / 2 + self.focal * down / depth
        return np.stack([x, y], 1), depth

    def ground(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World x, z and depth of the ground behind pixels x, y (any shape that broadcasts); depth inf above the
        horizon."""
        u = (x - (self.width - 1) / 2) / self.focal
        v = (y - (self.height - 1) / 2) / self.focal
        sin, cos = math.sin(self.pitch), math.cos(self.pitch)  # no numpy numbers: pixels in float32 stay so
        fall = sin + v * cos
        depth = np.where(fall > 1e-4, self.distance * sin / np.maximum(fall, 1e-4), np.inf)
        reach = np.minimum(depth, 1e4)
        return u * reach, (cos - v * sin) * reach, depth

    @property
    def horizon(self) -> float:
        """Row of the horizon."""
        return (self.height - 1) / 2 - self.focal * float(np.tan(self.pitch))


@dataclass(frozen=True)
class Fragments:
    """The pixels of a mesh that nothing else of it hides: x, y int32 N, depth float32 N, corners int32 N x 3 with
    their weights float32 N x 3 (perspective is in them)."""

    x: np.ndarray
    y: np.ndarray
    depth: np.ndarray
    corners: np.ndarray
    weights: np.ndarray

    def mix(self, values: np.ndarray) -> np.ndarray:
        """Values of the vertices (V x C) at the pixels: float32 N x C."""
        return np.einsum("nk,nkc->nc", self.weights, values[self.corners])


def rasterize(pixels: np.ndarray, depth: np.ndarray, faces: np.ndarray, limits: tuple[int, int, int, int]) -> Fragments:
    """Draws triangles into the window `limits` = x0, y0, x1, y1 (whole pixels, x1 and y1 exclusive).

    pixels: V x 2; depth: V, above 0; faces: F x 3.
    """
    x0, y0, x1, y1 = limits
    pixels, near = pixels.astype(np.float32), (1 / depth).astype(np.float32)
    p = pixels[faces]
    low = np.ceil(p.min(1)).astype(np.int32)
    high = np.floor(p.max(1)).astype(np.int32) + 1
    low, high = np.maximum(low, [x0, y0]), np.minimum(high, [x1, y1])
    a, b = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    size = np.maximum(high - low, 0)
    count = size[:, 0] * size[:, 1] * (area > 1e-6)
    of = np.repeat(np.arange(len(faces), dtype=np.int32), count)
    k = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(k.astype(np.int32), np.maximum(size[:, 0], 1)[of])
    x, y = low[of, 0] + column, low[of, 1] + row
    a, b = a / np.maximum(area, 1e-6)[:, None], b / np.maximum(area, 1e-6)[:, None]
    dx, dy = x.astype(np.float32) - p[of, 0, 0], y.astype(np.float32) - p[of, 0, 1]
    w1 = dx * b[of, 1] - dy * b[of, 0]
    w2 = dy * a[of, 0] - dx * a[of, 1]
    inside = np.flatnonzero((w1 >= -1e-4) & (w2 >= -1e-4) & (w1 + w2 <= 1.0001))
    x, y, of, w1, w2 = x[inside], y[inside], of[inside], w1[inside], w2[inside]
    corners = faces[of]
    weights = np.stack([1 - w1 - w2, w1, w2], 1) * near[corners]
    closeness = weights.sum(1)
    place = (y - y0) * (x1 - x0) + x - x0
    best = np.zeros((y1 - y0) * (x1 - x0), np.float32)
    np.maximum.at(best, place, closeness)
    won = np.flatnonzero(closeness == best[place])
    owner = np.full(len(best), -1)
    owner[place[won]] = won  # one fragment a pixel, also where two are equally close
    won = owner[owner >= 0]
    weights = weights[won] / closeness[won, None]
    return Fragments(x[won], y[won], 1 / closeness[won], corners[won], weights)
