"""What a renderer is given and what it returns: all that the two renderers have in common.

A renderer is a package with four names:

    Look                                   settings of what photos look like (a Config); width, height and quality in it
    make_scene(rng, look, animals, fixed)  a place at a time with these animals; any object
    shoot(scene, rng, present)             one Photo of it; `present`: per animal whether it is there
    coat_map(identity, look)               rings of an individual: bool (rows = theta, columns = s)

Body coordinates: s runs from the nose (0) to the root of the tail (1); theta around the body, as a share of a turn:
0 = back, 0.25 = left flank, 0.5 = belly, 0.75 = right flank.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

MIN_PIXELS = 250  # visible pixels of an animal that counts; fewer are no instance
SIDES = ("left", "right", "front", "back", "up", "down")  # up: the back seen from above; down: the belly


@dataclass(frozen=True)
class Animal:
    """An animal to be drawn. identity: seed of its coat and proportions. side: the side of it that the scene shows."""

    identity: int
    side: str
    pup: bool = False


@dataclass(frozen=True)
class Instance:
    """The truth about one animal in a photo.

    side: one of SIDES, the one that the camera sees. box: x0, y0, x1, y1 of the mask in whole pixels, x1 and y1
    exclusive. mask: bool, full photo, the visible pixels. rings: bool, full photo, those of them that are ring.
    surface: uint8 on the pixels of the box, h x w x 3 = s, theta (both 0..255 for 0..1), facing (cosine between the
    line of sight and the surface, 1..255); 0 where the animal is not seen and on its flippers. visible: share of the
    animal's pixels that are neither hidden nor outside the photo, 0..1. contrast: of its rings as they were drawn,
    0 = invisible. yaw: degrees, 0 = left flank seen, 90 = nose to the camera.
    """

    identity: int
    side: str
    box: tuple[int, int, int, int]
    mask: np.ndarray
    rings: np.ndarray
    surface: np.ndarray
    visible: float
    contrast: float
    yaw: float


@dataclass(frozen=True)
class Photo:
    """image: uint8 RGB h x w x 3. quality: of the JPEG to be written. settings: plain values that made the photo."""

    image: np.ndarray
    instances: list[Instance]
    quality: int
    settings: dict[str, Any] = field(default_factory=dict)
