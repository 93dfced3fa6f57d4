"""Painting animals and rocks into a photo, far ones first, and keeping account of which pixel shows what."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pusa.synthetic.photo import Animal
from pusa.synthetic.renderer_a import body
from pusa.synthetic.renderer_a.backgrounds import Light, Sprite
from pusa.synthetic.renderer_a.coats import Coat, coat
from pusa.synthetic.renderer_a.noise import fractal
from pusa.synthetic.renderer_a.rings import RingModel

_BLEACHED = np.array([150, 140, 122], np.float32)  # fur before the moult, dried in the sun
_SILVER = np.array([168, 170, 172], np.float32)  # a pup's first short coat


@dataclass(frozen=True)
class Placement:
    """One animal in a scene: who, where its middle rests on the canvas, its length (pixels), its pose.

    contrast: of rings on fur, 0..1; wet: 0 dry to 1 dripping; pale: how bleached the fur is, 0..1; moult: share of the
    coat that is old fur; sunk: share of its height that is under water.
    """

    animal: Animal
    x: float
    y: float
    length: float
    pose: body.Pose
    contrast: float
    wet: float
    pale: float
    moult: float = 0.0
    sunk: float = 0.0


class Painting:
    """image: float32 h x w x 3, RGB 0..255. owner: int16 h x w, the animal that a pixel shows, -1 = none.

    rings: bool h x w, the pixels that show a ring. surface: uint8 h x w x 3, as in `photo.Instance`.
    """

    def __init__(
        self, image: np.ndarray, light: Light, elevation: float, models: tuple[RingModel, ...] = ("placed", "reaction")
    ) -> None:
        self.image = image
        self.owner = np.full(image.shape[:2], -1, np.int16)
        self.rings = np.zeros(image.shape[:2], bool)
        self.surface = np.zeros(image.shape, np.uint8)
        self._models = models
        self._light = light
        self._camera = body.to_camera(elevation)

    def animal(self, rng: np.random.Generator, number: int, animal: Placement, seen: body.View) -> None:
        """Paints one animal, as `seen`, and its shadow; its pixels in `owner` become `number`."""
        if not animal.sunk:
            self._shadow(seen)
        where = _overlap(seen.x0, seen.y0, seen.mask.shape, self.owner.shape)
        if where is None:
            return
        place, patch = where
        colour, ring = _fur(coat(animal.animal.identity, self._models), seen, animal)
        colour *= self._lighting(seen, animal.wet)[..., None]
        colour *= 1 + 0.045 * fractal(rng, seen.mask.shape, 6, 2)[..., None]
        colour = np.clip(colour * self._light.tint, 0, 255)
        shown = seen.mask
        if animal.sunk:
            waves = 0.006 * fractal(rng, (1, seen.mask.shape[1]), max(0.06 * animal.length, 2), 3)
            shown = seen.mask & (seen.height > animal.sunk * 1.8 * body.GIRTH + waves)
            self._reflection(seen, shown, colour)
        # Soft outline. Colours must be spread over the border first, or it mixes with the black outside.
        alpha = cv2.GaussianBlur(shown.astype(np.float32), (3, 3), 0)
        spread = cv2.GaussianBlur(colour * shown[..., None], (3, 3), 0) / np.maximum(alpha, 1e-3)[..., None]
        colour = np.where(shown[..., None], colour, spread)[patch]
        self.image[place] += alpha[patch][..., None] * (colour - self.image[place])
        mask = shown[patch]
        self.owner[place][mask] = number
        self.rings[place][mask] = ring[patch][mask]
        self.surface[place][mask] = _surface(seen)[patch][mask]

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

    def _reflection(self, seen: body.View, shown: np.ndarray, colour: np.ndarray) -> None:
        """A dim mirror image in the water, below the lowest row that is shown."""
        rows = np.flatnonzero(shown.any(axis=1))
        if not len(rows):
            return
        mirror = slice(rows[-1], None if rows[0] == 0 else rows[0] - 1, -1)
        share = 0.45 * cv2.blur(shown[mirror].astype(np.float32), (9, 5))
        share *= np.linspace(1, 0.3, len(share), dtype=np.float32)[:, None]
        where = _overlap(seen.x0, seen.y0 + int(rows[-1]), share.shape, self.owner.shape)
        if where is not None:
            place, patch = where
            dim = cv2.blur(0.6 * colour[mirror] * shown[mirror][..., None], (9, 5))[patch]
            alpha = share[patch][..., None]
            self.image[place] = (1 - alpha) * self.image[place] + alpha * dim


def _surface(seen: body.View) -> np.ndarray:
    """Body coordinates of a view as `photo.Instance` has them: uint8 h x w x 3."""
    trunk = (seen.mask & (seen.part == body.TRUNK))[..., None]
    values = np.dstack([seen.s * 255, seen.theta * (255 / (2 * np.pi)) % 255, np.maximum(seen.facing * 255, 1)])
    return (values * trunk).astype(np.uint8)


def _fur(fur: Coat, seen: body.View, animal: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Colour of the fur (float32 RGB) and which pixels are ring (bool), on the pixels of `seen`."""
    # Reduced to the size in the photo first (as mipmaps do), else thin lines break up into dots.
    width = int(np.clip(1.5 * animal.length, 64, fur.size))
    size = (width, round(width * fur.base.shape[0] / fur.size))
    x = seen.s * size[0] - 0.5
    y = seen.theta * (size[1] / (2 * np.pi)) - 0.5
    colour, strength, ring, order = (
        cv2.remap(cv2.resize(m, size, interpolation=cv2.INTER_AREA), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        for m in (fur.base, fur.soft, fur.rings.view(np.uint8) * np.uint8(255), fur.moult)
    )
    colour = colour.astype(np.float32)
    hair = (colour[..., :1] > 25).astype(np.float32)  # eyes and nose stay black
    colour += 0.55 * animal.pale * (1 - 0.35 * animal.wet) * hair * (_BLEACHED - colour)
    old = np.clip((255 * animal.moult - order.astype(np.float32)) / 12, 0, 1)[..., None] * hair
    colour += 0.8 * old * (_BLEACHED * 0.9 - colour)
    if animal.animal.pup:
        colour += 0.35 * hair * (_SILVER - colour)
    light = fur.light + 0.3 * animal.pale * (_BLEACHED - fur.light)
    colour += (animal.contrast / 255 * strength)[..., None] * (1 - 0.75 * old) * (light - colour)
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
