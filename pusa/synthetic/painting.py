"""Painting animals and rocks into a photo, far ones first, and keeping account of which pixel shows what."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pusa.synthetic import body
from pusa.synthetic.backgrounds import Light, Sprite
from pusa.synthetic.coats import Coat, coat
from pusa.synthetic.noise import fractal

_BLEACHED = np.array([150, 140, 122], np.float32)  # fur before the moult, dried in the sun


@dataclass(frozen=True)
class Placement:
    """One animal in a scene: the seed of its coat, where its middle rests on the canvas, its length (pixels), its pose.

    wet: 0 dry to 1 dripping; contrast: of rings on fur, 0..1; pale: how bleached the fur is, 0..1.
    """

    identity: int
    x: float
    y: float
    length: float
    pose: body.Pose
    contrast: float
    wet: float
    pale: float


class Painting:
    """image: float32 h x w x 3, RGB 0..255. owner: int16 h x w, the animal that a pixel shows, -1 = none.

    rings: bool h x w, the pixels that show a ring.
    """

    def __init__(self, image: np.ndarray, light: Light, elevation: float) -> None:
        self.image = image
        self.owner = np.full(image.shape[:2], -1, np.int16)
        self.rings = np.zeros(image.shape[:2], bool)
        self._light = light
        self._camera = body.to_camera(elevation)

    def animal(self, rng: np.random.Generator, number: int, animal: Placement, seen: body.View) -> None:
        """Paints one animal, as `seen`, and its shadow; its pixels in `owner` become `number`."""
        self._shadow(seen)
        where = _overlap(seen.x0, seen.y0, seen.mask.shape, self.owner.shape)
        if where is None:
            return
        place, patch = where
        colour, ring = _fur(coat(animal.identity), seen, animal)
        colour *= self._lighting(seen, animal.wet)[..., None]
        colour *= 1 + 0.045 * fractal(rng, seen.mask.shape, 6, 2)[..., None]
        colour = np.clip(colour * self._light.tint, 0, 255)
        # Soft outline. Colours must be spread over the border first, or it mixes with the black outside.
        alpha = cv2.GaussianBlur(seen.mask.astype(np.float32), (3, 3), 0)
        spread = cv2.GaussianBlur(colour * seen.mask[..., None], (3, 3), 0) / np.maximum(alpha, 1e-3)[..., None]
        colour = np.where(seen.mask[..., None], colour, spread)[patch]
        self.image[place] += alpha[patch][..., None] * (colour - self.image[place])
        mask = seen.mask[patch]
        self.owner[place][mask] = number
        self.rings[place][mask] = ring[patch][mask]

    def sprite(self, sprite: Sprite, view: np.ndarray) -> None:
        """Paints a rock; `view`: 2 x 3 matrix from canvas to photo."""
        h, w = sprite.alpha.shape
        matrix = view.copy()
        matrix[:, 2] = view @ [sprite.x0, sprite.y0, 1.0]
        corners = matrix @ np.array([[0, w, 0, w], [0, 0, h, h], [1, 1, 1, 1]])
        x0, y0 = (int(v) for v in np.floor(corners.min(axis=1)) - 1)
        x1, y1 = (int(v) for v in np.ceil(corners.max(axis=1)) + 1)
        where = _overlap(x0, y0, (y1 - y0, x1 - x0), self.owner.shape)
        if where is None:
            return
        place, patch = where
        matrix[:, 2] -= [x0, y0]
        alpha = cv2.warpAffine(sprite.alpha, matrix, (x1 - x0, y1 - y0))[patch]
        rgb = cv2.warpAffine(sprite.rgb, matrix, (x1 - x0, y1 - y0), borderMode=cv2.BORDER_REPLICATE)[patch]
        self.image[place] += alpha[..., None] * (rgb - self.image[place])
        self.owner[place][alpha > 0.5] = -1
        self.rings[place][alpha > 0.5] = False

    def _lighting(self, seen: body.View, wet: float) -> np.ndarray:
        """Brightness per pixel: light from the sky and the sun, and the gloss of wet fur."""
        direction, share = self._light.direction.astype(np.float32), self._light.sun
        sun = np.clip(seen.normal @ direction, 0, 1)
        shade = (1 - 0.7 * share) * (0.62 + 0.38 * seen.normal[..., 2]) + 1.2 * share * sun
        half = self._light.direction + self._camera
        half = (half / max(np.linalg.norm(half), 1e-6)).astype(np.float32)
        gloss = np.clip(seen.normal @ half, 0, 1) ** 24
        return (shade * (1 - 0.3 * wet) + 1.4 * share * wet * gloss).astype(np.float32)

    def _shadow(self, seen: body.View) -> None:
        """Darkens the ground beside the animal: its mask, pressed flat, moved away from the sun and blurred."""
        h, w = seen.mask.shape
        pad = max(int(0.12 * w), int(0.25 * h)) + 4
        x, y, _ = self._light.direction
        shift = -x * 0.3 * h * (0.3 + self._light.sun), 0.06 * h - min(y, 0) * 0.15 * h
        matrix = np.array([[1, 0, pad + shift[0]], [0, 0.5, pad + 0.5 * h + shift[1]]])
        flat = cv2.warpAffine(seen.mask.astype(np.float32), matrix, (w + 2 * pad, h + 2 * pad))
        flat = cv2.GaussianBlur(flat, (0, 0), max(0.05 * h, 1.0))
        where = _overlap(seen.x0 - pad, seen.y0 - pad, flat.shape, self.owner.shape)
        if where is not None:
            place, patch = where
            self.image[place] *= 1 - (0.4 + 0.25 * self._light.sun) * flat[patch][..., None]


def develop(rng: np.random.Generator, image: np.ndarray, *, blur: float, noise: float, infrared: bool) -> np.ndarray:
    """From the painted picture to a photo, uint8 RGB: infrared flash, lens blur, vignette, exposure, noise.

    blur: pixels, noise: grey levels (standard deviations). infrared: grey, and lit from the camera.
    """
    h, w = image.shape[:2]
    y, x = np.ogrid[-1 : 1 : complex(0, h), -1 : 1 : complex(0, w)]
    far = (x**2 + y**2).astype(np.float32)
    gain = 1 - rng.uniform(0.0, 0.12) * far
    if infrared:
        grey = image @ np.array([0.5, 0.35, 0.15], np.float32)
        image = np.repeat((1.1 * grey * np.exp(-0.75 * far))[..., None], 3, axis=2)
    image = cv2.GaussianBlur(image, (0, 0), blur)
    exposure = np.clip(rng.uniform(95, 135) / max(float(image[::8, ::8].mean()), 1.0), 0.7, 1.6)
    image *= (gain * np.float32(exposure))[..., None]
    np.add(image, np.float32(noise) * rng.standard_normal((h, w, 1), dtype=np.float32), out=image)
    if not infrared:
        colours = np.float32(0.6 * noise) * rng.standard_normal((h // 2, w // 2, 3), dtype=np.float32)
        cv2.add(image, cv2.resize(colours, (w, h)), dst=image)
    return np.clip(image, 0, 255).astype(np.uint8)


def _fur(fur: Coat, seen: body.View, animal: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Colour of the fur (float32 RGB) and which pixels are ring (bool), on the pixels of `seen`."""
    # Reduced to the size in the photo first (as mipmaps do), else thin lines break up into dots.
    width = int(np.clip(1.5 * animal.length, 64, fur.size))
    size = (width, round(width * fur.base.shape[0] / fur.size))
    x = seen.s * size[0] - 0.5
    y = seen.theta * (size[1] / (2 * np.pi)) - 0.5
    colour, strength, ring = (
        cv2.remap(cv2.resize(m, size, interpolation=cv2.INTER_AREA), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        for m in (fur.base, fur.soft, fur.rings.view(np.uint8) * np.uint8(255))
    )
    colour = colour.astype(np.float32)
    faded = 0.55 * animal.pale * (1 - 0.35 * animal.wet) * (colour[..., :1] > 25)  # eyes and nose stay black
    colour += faded * (_BLEACHED - colour)
    light = fur.light + 0.3 * animal.pale * (_BLEACHED - fur.light)
    colour += (animal.contrast / 255 * strength)[..., None] * (light - colour)
    flipper = seen.part == body.FLIPPER
    colour[flipper] = fur.flipper + 0.3 * animal.pale * (_BLEACHED - fur.flipper)
    # At grazing angles lines run together: no rings there.
    return colour.astype(np.float32), (ring > 115) & ~flipper & (seen.facing > 0.2)


def _overlap(
    x0: int, y0: int, shape: tuple[int, ...], size: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Slices of a photo of `size` and of a patch of `shape` at (x0, y0) where both lie; None if they do not meet."""
    x1, y1 = min(x0 + shape[1], size[1]), min(y0 + shape[0], size[0])
    left, top = max(x0, 0), max(y0, 0)
    if x1 <= left or y1 <= top:
        return None
    return (slice(top, y1), slice(left, x1)), (slice(top - y0, y1 - y0), slice(left - x0, x1 - x0))
