"""Light of a scene: a sky that is brighter above than below, a sun or a flash, and what the ground throws back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pusa.synthetic.renderer_b.fields import f32
from pusa.synthetic.renderer_b.look import Look

FLASH_REACH = 1.15  # the flash is at full strength up to this many camera distances


@dataclass(frozen=True)
class Light:
    """Linear RGB, float32, 1 = white paper under the open sky. toward: unit vector to the sun or the flash, world.

    sun: its colour. zenith, rim: of the sky. bounce: from the ground. flash: infrared flash at the camera.
    """

    toward: np.ndarray
    sun: np.ndarray
    zenith: np.ndarray
    rim: np.ndarray
    bounce: np.ndarray
    flash: bool

    def irradiance(self, normals: np.ndarray, lit: np.ndarray | float = 1.0) -> np.ndarray:
        """Light that falls on surfaces. normals: ... x 3, unit, world. lit: 0..1, how much of the sun they see."""
        up = 0.5 + 0.5 * normals[..., 1:2]
        direct = np.maximum(normals @ self.toward, 0) * lit
        sky = 0.65 * self.zenith + 0.35 * self.rim
        return up * sky + (1 - up) * self.bounce + direct[..., None] * self.sun

    def sky(self, height: np.ndarray) -> np.ndarray:
        """Colour of the sky at a height above the horizon (..., sine of the angle): ... x 3."""
        t = np.sqrt(np.clip(height, 0, 1))[..., None]
        return self.rim * (1 - t) + self.zenith * t

    def reach(self, depth: np.ndarray, distance: float) -> np.ndarray:
        """Factor by which the light of a flash falls off with depth; 1 by day."""
        if not self.flash:
            return np.ones_like(depth)
        return 1 / np.maximum(depth / (FLASH_REACH * distance), 0.6) ** 2


def make_light(rng: np.random.Generator, look: Look, pitch: float, infrared: bool) -> Light:
    """A time of the day and a weather. pitch: of the camera, radians."""
    if infrared:
        toward = np.array([0.05, np.sin(pitch) + 0.03, -np.cos(pitch)])
        grey = np.ones(3)
        return _light(toward / np.linalg.norm(toward), 0.9 * grey, 0.05 * grey, 0.03 * grey, 0.1 * grey, True)
    height = np.radians(rng.uniform(*look.sun))
    side = np.radians(rng.uniform(20, 160)) * rng.choice([-1, 1])  # 0 = behind the camera, 180 = against the light
    toward = np.array([np.sin(side) * np.cos(height), np.sin(height), -np.cos(side) * np.cos(height)])
    low = 1 - np.sin(height)
    if rng.random() < look.overcast:
        grey = np.array([0.95, 1.0, 1.06]) * rng.uniform(0.75, 0.95)
        return _light(toward, 0.12 * grey, grey, 0.95 * grey, 0.3 * grey, False)
    sun = np.array([1.0, 0.97 - 0.12 * low, 0.9 - 0.28 * low]) * rng.uniform(0.9, 1.5)
    zenith = np.array([0.26, 0.38, 0.6]) * rng.uniform(0.8, 1.2)
    rim = np.array([0.62, 0.68, 0.74])
    return _light(toward, sun, zenith, rim, 0.3 * sun * np.sin(height) + 0.08, False)


def _light(
    toward: np.ndarray, sun: np.ndarray, zenith: np.ndarray, rim: np.ndarray, bounce: np.ndarray, flash: bool
) -> Light:
    return Light(f32(toward), f32(sun), f32(zenith), f32(rim), f32(bounce), flash)
