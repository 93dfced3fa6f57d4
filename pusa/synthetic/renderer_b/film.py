"""From linear light to a photo: haze, lens, shake, sensor, tone curve, and the stamp bar of a game camera."""

from __future__ import annotations

import cv2
import numpy as np

BAR = 0.048  # height of the stamp bar, as a share of the photo
MOONS = ("NEW", "WAX CRESC", "1ST QTR", "WAX GIBB", "FULL", "WAN GIBB", "LAST QTR", "WAN CRESC")


def shake(colour: np.ndarray, length: float, angle: float) -> np.ndarray:
    """Blur along a line of `length` pixels at `angle` radians."""
    size = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((size, size), np.float32)
    middle = size // 2
    reach = 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    ends = [np.round((middle + sign * reach) * 16).astype(int).tolist() for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, 4)
    kernel[middle, middle] = max(kernel[middle, middle], 1)
    return cv2.filter2D(colour, -1, kernel / kernel.sum())


def vignette(width: int, height: int, strength: float) -> np.ndarray:
    """Loss of light towards the corners, 1 in the middle: float32 height x width x 1."""
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-height / width, height / width, height, dtype=np.float32)[:, None]
    return (1 / np.square(1 + strength * (x * x + y * y)))[..., None]


def develop(rng: np.random.Generator, colour: np.ndarray, gain: float, white: np.ndarray, noise: float) -> np.ndarray:
    """Sensor and tone curve: float32 linear H x W x 3 to float32 0..255. noise: sigma as a share of white."""
    tone = colour * (gain * white).astype(np.float32)
    bright = tone > 0.7
    tone[bright] = 0.7 + 0.3 * np.tanh((tone[bright] - 0.7) / 0.45)  # highlights roll off
    np.power(np.maximum(tone, 0, out=tone), 1 / 2.2, out=tone)
    grain = rng.standard_normal(colour.shape, dtype=np.float32)
    tone += 0.75 * noise * grain
    tone += 0.9 * noise * cv2.GaussianBlur(grain, (0, 0), 0.9)  # sensors mix their pixels: grain is wider than one
    return np.clip(tone, 0, 1, out=tone) * 255


def night_vision(picture: np.ndarray) -> np.ndarray:
    """The picture in grey, as an infrared sensor gives it: all three channels the same."""
    return np.repeat(picture.mean(2, keepdims=True), 3, axis=2)


def bar_top(height: int) -> int:
    """First row of the stamp bar."""
    return height - max(12, round(BAR * height))


def stamp(image: np.ndarray, night: tuple[str, int, int]) -> None:
    """Prints the bar with date, temperature and moon over the lower border of an RGB image, in place."""
    height, width = image.shape[:2]
    top = bar_top(height)
    image[top:] = 8
    date, degrees, moon = night
    size = (height - top) / 34
    y = height - round(0.3 * (height - top))
    thick = max(1, round(1.6 * size))
    texts = ((0.015, f"{degrees}C {round(degrees * 1.8 + 32)}F"), (0.3, MOONS[moon]), (0.6, date))
    for place, text in texts:
        cv2.putText(
            image, text, (round(place * width), y), cv2.FONT_HERSHEY_SIMPLEX, size, (232,) * 3, thick, cv2.LINE_AA
        )
