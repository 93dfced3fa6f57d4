"""A place at a time with its animals: where each lies and how, what hides it, the light and the camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pusa.synthetic.photo import Animal
from pusa.synthetic.renderer_b.body import Build, Pose, axes, build
from pusa.synthetic.renderer_b.camera import Camera
from pusa.synthetic.renderer_b.ground import make_ground
from pusa.synthetic.renderer_b.light import Light, make_light
from pusa.synthetic.renderer_b.look import Look
from pusa.synthetic.renderer_b.place import Canvas, paint_place
from pusa.synthetic.renderer_b.stones import SLAB, Reeds, Stone, reeds, stone
from pusa.synthetic.renderer_b.terrain import tile_unit

MARGIN = 1.3  # of the canvas around the photo, for a camera held in the hand
YAW = {"left": 0.0, "front": 90.0, "right": 180.0, "back": 270.0}
JITTER = 38.0  # degrees
TRIES = 40  # places tried for each animal
TOUCH = 0.3  # body lengths between the middle lines of two animals that do not touch


@dataclass(frozen=True)
class Actor:
    """An animal in its place. contrast: of its rings, 0..1. wet, moult: of its fur, 0..1."""

    animal: Animal
    shape: Build
    pose: Pose
    contrast: float
    wet: float
    moult: float


@dataclass(frozen=True)
class Scene:
    """Everything that stays the same from shot to shot. canvas: the place as `camera` sees it, larger than a photo.

    gain: from linear light to the sensor, 1 = white. night: settings of the stamp bar (date, degrees, moon), or None.
    """

    look: Look
    camera: Camera
    light: Light
    ground: str
    canvas: Canvas
    actors: tuple[Actor, ...]
    gain: float
    haze: float
    white: np.ndarray
    night: tuple[str, int, int] | None
    fixed: bool


def make_scene(rng: np.random.Generator, look: Look, animals: Sequence[Animal], fixed: bool = False) -> Scene:
    """Draws a scene with these animals, each with the side to the camera that it asks for.

    fixed: a camera that does not move between shots. Same state of `rng`, same scene.
    """
    infrared = bool(rng.random() < look.infrared)
    camera = _camera(rng, look, len(animals), fixed)
    light = make_light(rng, look, camera.pitch, infrared)
    ground = make_ground(rng, tile_unit(camera))
    actors: list[Actor] = []
    stones: list[Stone] = []
    clumps: list[Reeds] = []
    season = rng.random()  # how far the moult has come
    for animal in animals:
        swims = bool(rng.random() < look.in_water)
        shape = build(animal.identity, animal.pup)
        base = SLAB if ground.kind == "water" and not swims else 0.0
        pose = _pose(rng, animal.side, camera, shape, swims, base)
        pose = _settle(rng, look, camera, pose, shape, actors)
        wet = max(rng.uniform(*look.wet), 0.75 if swims else 0.0)
        moult = float(np.clip(season + rng.normal(0, 0.25), 0, 1)) * (1 - wet)
        actors.append(Actor(animal, shape, pose, float(rng.uniform(*look.contrast)), wet, moult))
        if base:
            size = np.array([0.5, 0.3, 0.3]) * shape.length * rng.uniform(1.0, 1.2) + [0.1, 0, 0.05]
            across = abs(np.cos(np.radians(pose.yaw)))
            size[[0, 2]] = across * size[[0, 2]] + (1 - across) * size[[2, 0]]
            stones.append(stone(rng, ground.kind, (pose.x, pose.z), size, top=SLAB - 0.01))
        if rng.random() < look.hidden:
            _hide(rng, ground.kind, actors[-1], stones, clumps)
    _scatter(rng, ground.kind, camera, actors, stones, clumps)
    spots = [(a.pose.x, a.pose.z, a.pose.sink > 0) for a in actors]
    canvas = paint_place(rng, camera, ground, light, spots, stones, clumps)
    middle = canvas.colour[camera.height // 3 :].mean()  # snow stays brighter than rock
    night = (_date(rng), int(rng.integers(-6, 14)), int(rng.integers(8))) if infrared else None
    return Scene(
        look,
        camera,
        light,
        ground.kind,
        canvas,
        tuple(actors),
        gain=float(rng.uniform(*look.exposure)) * 0.47 / max(float(middle), 0.1 if infrared else 0.04) ** 0.67,
        haze=0.0 if infrared else float(rng.uniform(*look.haze)),
        white=1 + rng.normal(0, 0.035, 3) * [1, 0.4, 1],
        night=night,
        fixed=fixed,
    )


def _camera(rng: np.random.Generator, look: Look, number: int, fixed: bool) -> Camera:
    """A lens and a place for it, so that `number` animals have room in the photo."""
    low, high = look.length
    room = float(np.sqrt(1.6 * look.width * look.height / max(number, 1)))
    length = low + (max(low, min(high, room)) - low) * rng.random()
    focal = look.width * rng.uniform(1.6, 3.2)
    margin = 1.0 if fixed else MARGIN
    size = round(look.width * margin), round(look.height * margin)
    return Camera(focal, float(np.radians(rng.uniform(*look.pitch))), focal / length, *size)


def _pose(rng: np.random.Generator, side: str, camera: Camera, shape: Build, swims: bool, base: float) -> Pose:
    """A way of lying that shows `side`. Up and down: on its flank, back or belly to the camera."""
    yaw = YAW.get(side, float(rng.choice([0.0, 180.0])))
    lies = side in ("up", "down")
    spread = 20.0 if lies else JITTER
    turn, lean = rng.uniform(-spread, spread), rng.normal(0, 9)
    banana = rng.random() < 0.3
    lift = rng.uniform(4, 40) if not lies else rng.uniform(-5, 8)
    pose = Pose(
        x=0.0,
        z=camera.distance,
        yaw=(yaw + turn) % 360,
        roll=lean,
        neck=lift + 8 * banana,
        nod=lift * rng.uniform(0.6, 1.2),
        look=rng.normal(0, 22),
        bend=rng.normal(0, 14),
        rear=rng.uniform(15, 55) if banana and not swims else rng.uniform(0, 14),
        sink=float(rng.uniform(0.08, 0.17)) * shape.length if swims else 0.0,
        base=base,
    )
    if lies:
        toward = 90 - np.degrees(camera.pitch)  # a roll that turns the back to the camera when the left flank faces it
        roll = (toward if side == "up" else toward - 180) * (1 if yaw == 0 else -1)
        return replace(pose, roll=roll + lean)
    while seen_side(camera, pose) != side:  # a high camera sees the back; less turn and lean show the side again
        turn, lean = 0.7 * turn, 0.7 * lean
        if abs(turn) < 0.1:
            break
        pose = replace(pose, yaw=(yaw + turn) % 360, roll=lean)
    return pose


def seen_side(camera: Camera, pose: Pose) -> str:
    """The side of SIDES that faces the camera most."""
    line = camera.place - [pose.x, pose.base, pose.z]
    f, u, left = axes(pose) @ line
    return max([(f, "front"), (-f, "back"), (left, "left"), (-left, "right"), (u, "up"), (-u, "down")])[1]


def _settle(
    rng: np.random.Generator, look: Look, camera: Camera, pose: Pose, shape: Build, others: Sequence[Actor]
) -> Pose:
    """The pose moved to a place in the photo where it hides the others, and they it, as little as can be."""
    best, least = pose, np.inf
    theirs = np.array([_line(o.pose, o.shape) for o in others]).reshape(-1, 5, 1, 3)
    seen = camera.project(theirs.reshape(-1, 3))[0].reshape(-1, 5, 1, 2)
    for _ in range(TRIES):
        x = (camera.width - look.width) / 2 + look.width * rng.uniform(0.1, 0.9)
        low = max(camera.horizon + 0.62 * camera.focal * np.tan(camera.pitch), 0)
        top = max(low, (camera.height - look.height) / 2 + 0.22 * look.height)
        y = rng.uniform(top, max(top + 1, (camera.height + look.height) / 2 - 0.1 * look.height))
        gx, gz, _ = camera.ground(np.array(x), np.array(y))
        aside = float(np.degrees(np.arctan2(gx, gz)))  # so that it shows its side from there, too
        trial = replace(pose, x=float(gx), z=float(gz), yaw=(pose.yaw - aside) % 360)
        if seen_side(camera, trial) != seen_side(camera, pose):
            continue
        cost = 0.02 * rng.random()
        mine = _line(trial, shape)
        pixels, depth = camera.project(mine)
        apart = np.linalg.norm(theirs - mine, axis=3).min((1, 2), initial=TOUCH)
        near = np.linalg.norm(seen - pixels, axis=3) * depth.mean() / camera.focal
        cost += (3 * (TOUCH - apart) / TOUCH).sum() + np.maximum(0, 0.3 - near).mean((1, 2)).sum()
        if cost < least:
            best, least = trial, cost
    return best


def _line(pose: Pose, shape: Build) -> np.ndarray:
    """Five points from tail to nose in the world, at half the height of the body."""
    along = np.outer(np.linspace(-0.5, 0.45, 5) * shape.length, axes(pose)[0])
    return along + np.array([pose.x, pose.base + 0.1 * shape.length, pose.z])


def _hide(rng: np.random.Generator, kind: str, actor: Actor, stones: list[Stone], clumps: list[Reeds]) -> None:
    """Puts something between an animal and the camera, before a part of its body."""
    pose, length = actor.pose, actor.shape.length
    along = axes(pose)[0] * rng.uniform(-0.45, 0.45) * length
    half = 0.5 * length * abs(np.sin(np.radians(pose.yaw))) + 0.17  # from the middle of the animal to its near border
    reedy = kind == "bank" or (kind in ("mud", "water", "cobbles") and rng.random() < 0.3)
    if reedy:
        x, z = pose.x + along[0], pose.z - half - rng.uniform(0.05, 0.2)
        clumps.append(reeds(rng, x, z, rng.uniform(0.35, 0.9) * length, int(rng.integers(25, 70))))
        return
    size = np.array([rng.uniform(0.1, 0.22), rng.uniform(0.12, 0.2) + pose.base, rng.uniform(0.1, 0.16)]) * length**0.5
    x, z = pose.x + along[0], pose.z - half - size[2] - 0.06
    stones.append(stone(rng, kind, (x, z), size))


def _scatter(
    rng: np.random.Generator,
    kind: str,
    camera: Camera,
    actors: Sequence[Actor],
    stones: list[Stone],
    clumps: list[Reeds],
) -> None:
    """Stones and reeds that belong to the place, kept off the animals."""
    taken = np.array([[a.pose.x, a.pose.z] for a in actors]).reshape(-1, 2)
    for _ in range(int(rng.integers(0, 7))):
        x, y = rng.uniform(0, camera.width), rng.uniform(max(camera.horizon, 0) + 0.1 * camera.height, camera.height)
        gx, gz, depth = (float(a) for a in camera.ground(np.array(x), np.array(y)))
        if depth > 4 * camera.distance or (len(taken) and np.hypot(*(taken - [gx, gz]).T).min() < 1.1):
            continue
        if kind == "bank":
            clumps.append(reeds(rng, gx, gz, rng.uniform(0.4, 1.5), int(rng.integers(30, 90))))
        else:
            stones.append(
                stone(rng, kind, (gx, gz), rng.uniform(0.08, 0.42) * rng.uniform([1, 0.5, 1], [1.5, 0.9, 1.3]))
            )


def _date(rng: np.random.Generator) -> str:
    """Date and time by night in the season of the moult, as game cameras print it."""
    year, month, day = rng.integers([2016, 4, 1], [2025, 6, 31])
    hour = (22 + rng.integers(6)) % 24
    minute, second = rng.integers(60, size=2)
    return f"{year}-{month:02d}-{day:02d}  {hour:02d}:{minute:02d}:{second:02d}"
