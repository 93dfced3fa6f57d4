"""Smooth random textures: the mottling of fur, the grain of rock, the waves of water."""

from __future__ import annotations

import cv2
import numpy as np


def fractal(
    rng: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int = 3, stretch: float = 1.0
) -> np.ndarray:
    """Fractal value noise of `shape` (rows, columns): float32, mean 0, standard deviation 1, tileable both ways.

    `cell` is the size of the coarsest blobs in pixels, `stretch` how much wider than high they are. Each octave halves
    the size and the amplitude.
    """
    h, w = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        rows, cols = max(round(h / size), 2), max(round(w / (size * stretch)), 2)
        grid = rng.standard_normal((rows, cols), dtype=np.float32)
        # Two wrapped cells at each end, cut off after enlarging, so that opposite borders fit together.
        grid = np.pad(grid, 2, mode="wrap")
        fx, fy = cols / w, rows / h
        inverse = np.array([[fx, 0, 0.5 * fx + 1.5], [0, fy, 0.5 * fy + 1.5]])
        flags = cv2.INTER_CUBIC if octave == 0 and size > 8 else cv2.INTER_LINEAR  # fine octaves need no better
        total += cv2.warpAffine(grid, inverse, (w, h), flags=flags | cv2.WARP_INVERSE_MAP) * np.float32(0.5**octave)
    mean, deviation = cv2.meanStdDev(total)
    return (total - np.float32(mean[0, 0])) / np.float32(max(deviation[0, 0], 1e-6))
