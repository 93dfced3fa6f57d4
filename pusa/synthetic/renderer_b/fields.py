"""Random fields on tiles that wrap around: noise from filtered spectra, cells around scattered sites."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

ROW = 1024  # samples are taken in rows of this length: cv2.remap has a limit of 32767 a side


def spectral(
    rng: np.random.Generator, shape: tuple[int, int], low: float, high: float, stretch: float = 1.0
) -> np.ndarray:
    """Noise with wavelengths between `low` and `high` pixels, `stretch` times longer along x.

    Returns float32 of `shape` (rows, columns), mean 0, standard deviation 1, periodic on both axes.
    """
    white = np.fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    fy = np.fft.fftfreq(shape[0])[:, None].astype(np.float32)
    fx = np.fft.rfftfreq(shape[1])[None, :].astype(np.float32) * stretch
    f2 = fx * fx + fy * fy  # squared frequency; amplitudes fall with the frequency, as in nature
    fine, coarse = np.square(f2 * low**2), np.square(f2 * high**2)
    out = np.fft.irfft2(white * (coarse / ((1 + fine) * (1 + coarse) * np.sqrt(f2 + 1e-9))), shape)
    return (out - out.mean()) / max(float(out.std()), 1e-9)


def f32(values: np.ndarray | list[float]) -> np.ndarray:
    """The same values as float32."""
    return np.asarray(values, np.float32)


@lru_cache(maxsize=1)
def fur() -> np.ndarray:
    """Strands of fur along x and clumps of them: float32 512 x 512, mean 0, sigma 1, periodic. The same everywhere."""
    rng = np.random.default_rng(5)
    strands = spectral(rng, (512, 512), 2, 10, stretch=0.16)
    return 0.8 * strands + 0.5 * spectral(rng, (512, 512), 6, 60, stretch=0.5)


def cells(rng: np.random.Generator, size: int, across: float) -> tuple[np.ndarray, np.ndarray]:
    """Cells around jittered sites on a periodic square of `size` pixels, about `across` pixels wide each.

    Returns labels, int32 size x size from 0, and the distance to the border of the cell in pixels, float32.
    """
    n = max(2, round(size / across))
    grid = np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2)
    jittered = (grid + rng.uniform(-0.1, 1.1, grid.shape)) * size / n
    sites = np.unique(jittered.astype(np.int32) % size, axis=0)
    pad = min(size // 2, int(2.5 * size / n) + 2)
    free = np.full((size, size), 255, np.uint8)
    free[sites[:, 1], sites[:, 0]] = 0
    number = np.zeros((size, size), np.int32)
    number[sites[:, 1], sites[:, 0]] = np.arange(len(sites))
    free, number = np.pad(free, pad, mode="wrap"), np.pad(number, pad, mode="wrap")
    _, nearest = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    names = np.zeros(int(nearest.max()) + 1, np.int32)
    names[nearest[free == 0]] = number[free == 0]
    labels = names[nearest]
    same = np.full(labels.shape, 255, np.uint8)
    same[:, 1:][labels[:, 1:] != labels[:, :-1]] = 0
    same[1:][labels[1:] != labels[:-1]] = 0
    edge = cv2.distanceTransform(same, cv2.DIST_L2, 5)
    inner = slice(pad, pad + size)
    return labels[inner, inner], edge[inner, inner]


def warp(tile: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The periodic tile read at its own places shifted by dx, dy pixels: float32, shape of the tile."""
    y, x = np.indices(tile.shape[:2], dtype=np.float32)
    return cv2.remap(f32(tile), f32(x + dx), f32(y + dy), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def sample(tile: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values of a periodic tile at float pixel places x, y (both of shape N), linear between pixels: shape N (x C)."""
    n = len(x)
    flat = np.zeros((2, -(-max(n, 1) // ROW) * ROW), np.float32)
    flat[0, :n] = np.mod(x, tile.shape[1])
    flat[1, :n] = np.mod(y, tile.shape[0])
    columns, rows = flat.reshape(2, -1, ROW)
    got = cv2.remap(tile, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return got.reshape(-1, *tile.shape[2:])[:n]


def blurred(tile: np.ndarray, sigma: float) -> np.ndarray:
    """The periodic tile blurred by `sigma` pixels across its borders: shape of the tile."""
    pad = int(3.5 * sigma) + 1
    wide = cv2.copyMakeBorder(tile, pad, pad, pad, pad, cv2.BORDER_WRAP)
    return np.ascontiguousarray(cv2.GaussianBlur(wide, (0, 0), sigma)[pad:-pad, pad:-pad])


def smooth(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 at `low`, 1 at `high` (which may be the smaller one), smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
