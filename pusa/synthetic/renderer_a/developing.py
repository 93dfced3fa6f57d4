"""From the painted picture to a photo: haze, infrared flash, lens, camera shake, exposure, noise, and the stamp bar."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Film:
    """How a scene is photographed. blur: of the lens, pixels; noise: grey levels (standard deviations); haze: of the
    far end, 0..1; infrared: grey, and lit from the camera; stamp: text of the bar that game cameras print, or None.
    """

    blur: float
    noise: float
    haze: float = 0.0
    infrared: bool = False
    stamp: str | None = None


def develop(rng: np.random.Generator, image: np.ndarray, film: Film, smear: float = 0.0) -> tuple[np.ndarray, int]:
    """The photo, uint8 RGB, of a picture (float32 h x w x 3, 0..255, overwritten), and the rows that the bar takes.

    smear: pixels by which the camera moved, or the focus was wrong, in this photo.
    """
    h, w = image.shape[:2]
    y, x = np.ogrid[-1 : 1 : complex(0, h), -1 : 1 : complex(0, w)]
    far = (x**2 + y**2).astype(np.float32)
    gain = 1 - rng.uniform(0.0, 0.12) * far
    if film.haze:
        share = film.haze * np.linspace(1, 0.1, h, dtype=np.float32)[:, None, None]
        image += share * (np.array([205, 210, 214], np.float32) - image)
    if film.infrared:
        grey = image @ np.array([0.5, 0.35, 0.15], np.float32)
        image = np.repeat((1.1 * grey * np.exp(-0.75 * far))[..., None], 3, axis=2)
    image = cv2.GaussianBlur(image, (0, 0), film.blur)
    if smear:
        image = cv2.filter2D(image, -1, _smear(rng, smear))
    exposure = np.clip(rng.uniform(95, 135) / max(float(image[::8, ::8].mean()), 1.0), 0.7, 1.6)
    image *= (gain * np.float32(exposure))[..., None]
    np.add(image, np.float32(film.noise) * rng.standard_normal((h, w, 1), dtype=np.float32), out=image)
    if not film.infrared:
        colours = np.float32(0.6 * film.noise) * rng.standard_normal((h // 2, w // 2, 3), dtype=np.float32)
        cv2.add(image, cv2.resize(colours, (w, h)), dst=image)
    photo = np.clip(image, 0, 255).astype(np.uint8)
    return photo, _print(photo, film.stamp) if film.stamp else 0


def _smear(rng: np.random.Generator, length: float) -> np.ndarray:
    """The kernel of a shaken camera (a line of `length` pixels) or of a wrong focus (a disc)."""
    side = 2 * int(np.ceil(length)) + 1
    kernel = np.zeros((side, side), np.float32)
    middle = side // 2
    if rng.random() < 0.5:
        cv2.circle(kernel, (middle, middle), max(round(length / 2), 1), 1.0, -1)
    else:
        angle = rng.uniform(0, np.pi)
        reach = np.round(length / 2 * np.array([np.cos(angle), np.sin(angle)])).astype(int)
        cv2.line(kernel, tuple(middle - reach), tuple(middle + reach), 1.0)  # type: ignore[arg-type]
    return kernel / kernel.sum()


def _print(photo: np.ndarray, text: str) -> int:
    """Prints the bar into `photo`, in place; returns its height in pixels."""
    h, w = photo.shape[:2]
    bar = max(round(0.035 * h), 6)
    photo[h - bar :] = 8
    cv2.putText(
        photo, text, (bar // 2, h - bar // 4), cv2.FONT_HERSHEY_SIMPLEX, bar / 36, (235, 235, 235), 1, cv2.LINE_AA
    )
    cv2.circle(photo, (w - 2 * bar, h - bar // 2), bar // 4, (235, 235, 235), 1, cv2.LINE_AA)  # the moon
    return bar
