"""Where the animals of a scene lie and how, and the rocks about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pusa.synthetic.photo import Animal
from pusa.synthetic.renderer_a import backgrounds, body
from pusa.synthetic.renderer_a.look import Look
from pusa.synthetic.renderer_a.painting import Placement

MARGIN = 0.08  # canvas beyond each border of an unzoomed photo, as a share of the photo


def shape_of(animal: Animal, look: Look) -> body.Shape:
    """The proportions of an individual: the same for the same seed and look. Pups are rounder and have larger heads."""
    rng = np.random.default_rng([animal.identity, 2])
    pup = (1.1, 1.25) if animal.pup else (1.0, 1.0)
    return body.Shape(girth=pup[0] * rng.uniform(*look.girth), head=pup[1] * rng.uniform(0.9, 1.12))


def place(
    rng: np.random.Generator, look: Look, animals: Sequence[Animal], *, horizon: float, shoreline: float
) -> tuple[Placement, ...]:
    """Puts the animals on the ground, or into the water before it; near ones are larger, as in perspective.

    Rows `horizon` and `shoreline` are those of the canvas. Few hide each other, unless the scene is a crowded one.
    """
    w, h = look.width, look.height
    mx, my = MARGIN * w, MARGIN * h
    lo, hi = look.length
    near = np.exp(rng.uniform(np.log(min(2.5 * lo, hi)), np.log(hi))) * 1.25
    near *= min(1.0, 2.2 / max(len(animals), 1) ** 0.5)
    top, bottom = max(shoreline + 0.06 * h, horizon + 0.15 * h, my + 0.12 * h), my + 0.95 * h
    sea = max(horizon + 0.12 * h, my + 0.10 * h)  # nearer than this an animal in the water is large enough
    pale, wet = rng.uniform(0, 0.7), rng.random()  # weather: much the same for all animals of a scene
    closeness = 0.6 if rng.random() < look.crowded else 1.0
    placed: list[Placement] = []
    for animal in animals:
        swims = shoreline > sea + 0.03 * h and rng.random() < look.in_water
        rows = (sea, shoreline - 0.02 * h) if swims else (top, bottom)
        for attempt in range(60):
            shrink = 0.97**attempt
            y = rng.uniform(*rows)
            scale = (y - horizon) / (my + h - horizon)
            length = float(np.clip(near * shrink * scale * rng.uniform(0.9, 1.1), lo, hi))
            length *= rng.uniform(0.5, 0.65) if animal.pup else 1.0
            x = mx + w / 2 + rng.uniform(-0.5, 0.5) * max(w - 0.8 * length, 0.2 * w)  # few are cut off by the border
            if all(_apart(x, y, length, p, closeness) for p in placed):
                break
        placed.append(
            Placement(
                animal=animal,
                x=x,
                y=y,
                length=length,
                pose=_pose(rng, animal.side),
                contrast=float(rng.uniform(*look.contrast)),
                wet=float(np.clip((0.9 if swims else wet) + rng.normal(0, 0.2), 0, 1)),
                pale=float(np.clip(pale + rng.normal(0, 0.15), 0, 1)),
                moult=float(rng.uniform(*look.moult)),
                sunk=float(rng.uniform(0.15, 0.65)) if swims else 0.0,
            )
        )
    return tuple(placed)


def _pose(rng: np.random.Generator, side: str) -> body.Pose:
    """How an animal lies that shows `side`."""
    if side in ("up", "down"):  # on a flank, its back or its belly to the camera
        yaw = (0.0, 180.0)[rng.integers(2)]
        roll = (72.0 if (side == "up") == (yaw == 0) else -72.0) + float(rng.normal(0, 8))
    else:
        yaw, roll = {"left": 0.0, "front": 90.0, "right": 180.0, "back": 270.0}[side], float(rng.normal(0, 14))
        roll = float(np.clip(roll, -35, 35))
    return body.Pose(
        yaw=yaw + float(np.clip(rng.normal(0, 16), -38, 38)),
        roll=roll,
        bend=float(rng.normal(0, 18)),
        nod=float(max(rng.normal(12, 16), -5)),
        tail=float(max(rng.normal(8, 12), 0)),
    )


def _apart(x: float, y: float, length: float, other: Placement, closeness: float) -> bool:
    """Whether two animals hide at most a small part of each other."""
    mean = closeness * (length + other.length) / 2
    return bool(np.hypot((x - other.x) / (0.95 * mean), (y - other.y) / (0.26 * mean)) > 1)


def rocks(
    rng: np.random.Generator,
    look: Look,
    ground: str,
    animals: tuple[Placement, ...],
    *,
    horizon: float,
    light: backgrounds.Light,
    shape: tuple[int, int],
) -> tuple[backgrounds.Sprite, ...]:
    """Rocks anywhere, in the water too, and some on purpose before an animal."""
    h, w = shape
    stones = []
    for _ in range(rng.integers(2, 12)):
        y = rng.uniform(max(horizon + 0.04 * h, 0.05 * h), h)
        scale = (y - horizon) / (h - horizon)
        x, width = rng.uniform(0, w), rng.lognormal(np.log(170), 0.6) * scale
        if width > 8 and all(abs(x - a.x) > 0.35 * (width + a.length) or y < a.y - 0.1 * a.length for a in animals):
            stones.append(backgrounds.rock(rng, ground, (x, y), min(width, 0.4 * w), light))
    for a in animals:
        if rng.random() < look.hidden:
            width = a.length * rng.uniform(0.25, 0.55)
            x = a.x + rng.choice([-1, 1]) * a.length * rng.uniform(0.15, 0.5)
            y = a.y + a.length * rng.uniform(0.03, 0.09)
            stones.append(backgrounds.rock(rng, ground, (x, y), width, light))
    return tuple(stones)
