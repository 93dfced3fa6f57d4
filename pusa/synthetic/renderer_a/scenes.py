"""Scenes of renderer A: a place at a time, and photos of it with the truth about every animal.

A scene (background, rocks, places of the animals, light) lives on a canvas larger than a photo. `shoot` takes one photo
of it: with a view of its own (zoom, shift, turn), as somebody with a camera in hand would, or the same every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from pusa.synthetic.photo import MIN_PIXELS, Animal, Instance, Photo
from pusa.synthetic.renderer_a import backgrounds, body, coats, developing, placing
from pusa.synthetic.renderer_a.look import Look
from pusa.synthetic.renderer_a.noise import fractal
from pusa.synthetic.renderer_a.painting import Painting, Placement
from pusa.synthetic.renderer_a.placing import MARGIN


@dataclass(frozen=True)
class Scene:
    """A place at a time. `canvas`: float32 RGB, larger than a photo by MARGIN on each side; `shade`: likewise, how much
    of the light arrives, 0..1, or None.
    """

    look: Look
    fixed: bool
    canvas: np.ndarray
    shade: np.ndarray | None
    rocks: tuple[backgrounds.Sprite, ...]
    animals: tuple[Placement, ...]
    light: backgrounds.Light
    elevation: float  # degrees that the camera looks down
    film: developing.Film
    settings: dict[str, Any]


def make_scene(rng: np.random.Generator, look: Look, animals: Sequence[Animal], fixed: bool = False) -> Scene:
    """A place with these animals. `fixed`: by a camera on a post, which prints a bar of text into its photos."""
    w, h = look.width, look.height
    mx, my = round(MARGIN * w), round(MARGIN * h)
    shape = (h + 2 * my, w + 2 * mx)
    level = rng.uniform(*look.horizon)
    horizon = my + level * h
    shoreline = horizon + rng.uniform(0.05, 0.30) * h if rng.random() < 0.75 else -1.0
    if level < 0 and rng.random() < 0.5:
        shoreline = rng.uniform(0.0, 0.35) * h
    shoreline = min(shoreline, my + 0.5 * h)
    azimuth, altitude = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(20, 70))
    direction = np.array([np.cos(azimuth) * np.cos(altitude), np.sin(azimuth) * np.cos(altitude), np.sin(altitude)])
    warmth = rng.uniform(*look.warmth)
    tint = (rng.uniform(0.8, 1.12) * np.array([1 + warmth, 1.0, 1 - warmth])).astype(np.float32)
    light = backgrounds.Light(direction, rng.uniform(*look.sun), tint)
    ground = look.grounds[rng.integers(len(look.grounds))]
    canvas = backgrounds.backdrop(rng, ground, shape, horizon=horizon, shoreline=shoreline, light=light)
    placed = placing.place(rng, look, animals, horizon=horizon, shoreline=shoreline)
    rocks = placing.rocks(rng, look, ground, placed, horizon=horizon, light=light, shape=shape)
    shade = _shade(rng, shape, horizon) if rng.random() < look.shade else None
    film = developing.Film(
        blur=rng.uniform(*look.blur),
        noise=rng.uniform(*look.noise),
        haze=rng.uniform(*look.haze),
        infrared=bool(rng.random() < look.infrared),
        stamp=_stamp(rng) if fixed else None,
    )
    return Scene(
        look=look,
        fixed=fixed,
        canvas=canvas,
        shade=shade,
        rocks=rocks,
        animals=placed,
        light=light,
        elevation=float(np.interp(level, [-0.7, 0.45], [32, 5])),
        film=film,
        settings={
            "ground": ground,
            "horizon": round(level, 3),
            "sun": round(light.sun, 3),
            "warmth": round(warmth, 3),
            "shade": shade is not None,
            "fixed": fixed,
            "infrared": film.infrared,
            "haze": round(film.haze, 3),
            "blur": round(film.blur, 2),
            "noise": round(film.noise, 2),
        },
    )


def shoot(scene: Scene, rng: np.random.Generator, present: Sequence[bool] | None = None) -> Photo:
    """One photo of the scene. `present`: which of its animals are there (all, if absent); they also move a little."""
    look = scene.look
    w, h = look.width, look.height
    view, zoom, turn = _view(rng, scene)
    border = cv2.BORDER_REFLECT_101
    image = cv2.warpAffine(scene.canvas, view, (w, h), flags=cv2.INTER_LINEAR, borderMode=border)
    painting = Painting(image, scene.light, scene.elevation, look.ring_models)
    whole: dict[int, int] = {}  # pixels of each animal, hidden ones too
    things: list[tuple[float, int, backgrounds.Sprite | Placement]] = [(r.base, -1, r) for r in scene.rocks]
    moved = [_fidget(rng, animal) for animal in scene.animals]
    things += [(a.y, i, a) for i, a in enumerate(moved) if present is None or present[i]]
    for _, i, thing in sorted(things, key=lambda t: t[:2]):
        if isinstance(thing, Placement):
            x, y = view @ [thing.x, thing.y, 1.0]
            shape, length = placing.shape_of(thing.animal, look), thing.length * zoom
            seen = body.render(shape, thing.pose, length, (x, y), elevation=scene.elevation, turn=turn)
            whole[i] = int(seen.mask.sum())
            painting.animal(rng, i, thing, seen)
        else:
            painting.sprite(thing, view)
    if scene.shade is not None:
        shade = cv2.warpAffine(scene.shade, view, (w, h), flags=cv2.INTER_LINEAR, borderMode=border)
        painting.image *= shade[..., None]
    smear = rng.uniform(*look.smear) if rng.random() < look.moving else 0.0
    image, bar = developing.develop(rng, painting.image, scene.film, smear=smear)
    painting.owner[h - bar :] = -1
    instances = [
        _instance(painting, i, moved[i], whole[i], scene.elevation)
        for i in sorted(whole)
        if np.count_nonzero(painting.owner == i) >= MIN_PIXELS
    ]
    quality = int(rng.integers(look.quality[0], look.quality[1] + 1))
    own = {"zoom": round(zoom, 3), "turn": round(turn, 2), "smear": round(smear, 2), "quality": quality}
    return Photo(image, instances, quality, scene.settings | own)


def coat_map(identity: int, look: Look) -> np.ndarray:
    """Rings of an individual as they are drawn: bool (theta, s)."""
    return coats.coat(identity, look.ring_models).rings


def _instance(painting: Painting, number: int, animal: Placement, whole: int, elevation: float) -> Instance:
    """The truth about animal `number` of a painting; `whole`: its pixels if nothing hid it."""
    mask = painting.owner == number
    x0, y0, bw, bh = cv2.boundingRect(mask.view(np.uint8))
    box = (slice(y0, y0 + bh), slice(x0, x0 + bw))
    return Instance(
        identity=animal.animal.identity,
        side=body.side(animal.pose, elevation),
        box=(x0, y0, x0 + bw, y0 + bh),
        mask=mask,
        rings=painting.rings & mask,
        surface=painting.surface[box] * mask[box][..., None],
        visible=min(int(mask.sum()) / whole, 1.0),
        contrast=animal.contrast,
        yaw=animal.pose.yaw % 360,
    )


def _shade(rng: np.random.Generator, shape: tuple[int, int], horizon: float) -> np.ndarray:
    """Shadows of trees and rocks below the row `horizon`: how much light arrives, float32 of `shape`."""
    depth, cell = rng.uniform(0.3, 0.6), shape[1] * rng.uniform(0.08, 0.3)
    edge = rng.uniform(0.05, 0.3)  # soft by the width of the sun
    cover = np.clip((fractal(rng, shape, cell, 4, rng.uniform(0.6, 2.5)) - rng.uniform(-0.2, 0.8)) / edge, 0, 1)
    cover[: max(int(horizon), 0)] = 0
    return (1 - depth * cover).astype(np.float32)


def _stamp(rng: np.random.Generator) -> str:
    """What a game camera prints below its photos. Its clock is not the archive's: nothing must be read from it."""
    return (
        f"CAM{rng.integers(1, 30):02d}  {rng.integers(-3, 28)}C  "
        f"{rng.integers(5, 7):02d}/{rng.integers(1, 29):02d}  {rng.integers(24):02d}:{rng.integers(60):02d}"
    )


def _view(rng: np.random.Generator, scene: Scene) -> tuple[np.ndarray, float, float]:
    """Canvas to photo: (2 x 3 matrix, zoom, clockwise turn in degrees). Whoever photographs aims at the animals."""
    w, h = scene.look.width, scene.look.height
    middle, aim = np.array([0.5 + MARGIN, 0.5 + MARGIN]), np.zeros(2)
    zoom, turn, slack = 1.0, 0.0, 0.0
    if not scene.fixed:
        zoom, turn = rng.uniform(*scene.look.zoom), float(np.clip(rng.normal(0, 1.5), -4, 4))
        slack = 0.5 * (1 - 1 / zoom) + 0.04
        aim = rng.normal(0, 0.04, 2)
        if scene.animals:
            places = np.array([[a.x / w, a.y / h] for a in scene.animals])
            aim += (places.min(axis=0) + places.max(axis=0)) / 2 - middle
    centre = (middle + np.clip(aim, -slack, slack)) * [w, h]
    a = np.radians(turn)
    rotation = zoom * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return np.column_stack([rotation, np.array([w / 2, h / 2]) - rotation @ centre]), zoom, turn


def _fidget(rng: np.random.Generator, animal: Placement) -> Placement:
    """The same animal a moment later: head and body have moved a little."""
    p = animal.pose
    pose = replace(
        p,
        yaw=p.yaw + float(rng.normal(0, 5)),
        roll=p.roll + float(rng.normal(0, 4)),
        bend=p.bend + float(rng.normal(0, 7)),
        nod=p.nod + float(rng.normal(0, 8)),
        tail=max(p.tail + float(rng.normal(0, 6)), 0.0),
    )
    step = animal.length * 0.015
    return replace(
        animal, pose=pose, x=animal.x + float(rng.normal(0, step)), y=animal.y + float(rng.normal(0, step / 3))
    )
