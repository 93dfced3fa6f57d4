"""Photos of seals on a shore, with the truth about every animal: who, which side, which pixels, which of them are ring.

A scene (background, rocks, places of the animals, light) lives on a canvas larger than a photo. `shoot` takes one photo
of it with a view of its own (zoom, shift, turn), as somebody with a camera in hand would: a sequence is one scene and
several shots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from pydantic import model_validator

from pusa.config import Config
from pusa.errors import UserError
from pusa.synthetic import backgrounds, body
from pusa.synthetic.painting import Painting, Placement, develop

MARGIN = 0.08  # canvas beyond each border of an unzoomed photo, as a share of the photo


class SceneSettings(Config):
    """What photos look like. Pairs are ranges that values are drawn from."""

    width: int = 1280  # pixels of the photo
    height: int = 960
    grounds: tuple[str, ...] = ("pebbles", "slab", "boulders")  # see backgrounds.GROUNDS
    animals: tuple[int, int] = (1, 8)  # animals a scene
    length: tuple[float, float] = (120.0, 600.0)  # pixels of a body length in an unzoomed photo
    girth: tuple[float, float] = (0.125, 0.155)  # largest radius in body lengths: thin to fat
    horizon: tuple[float, float] = (-0.35, 0.35)  # share of the height; below 0 it is above the photo
    flank: float = 0.8  # share of animals that show a flank, not front or back
    contrast: tuple[float, float] = (0.15, 1.0)  # of rings on fur; 0 = invisible
    hidden: float = 0.3  # share of animals with a rock before them
    sun: tuple[float, float] = (0.15, 0.75)  # direct light against light from the sky
    warmth: tuple[float, float] = (-0.06, 0.10)  # colour of the light: red up, blue down
    blur: tuple[float, float] = (0.3, 1.1)  # standard deviation in pixels
    noise: tuple[float, float] = (1.5, 7.0)  # standard deviation in grey levels
    quality: tuple[int, int] = (80, 95)  # of the JPEG
    zoom: tuple[float, float] = (1.0, 1.35)
    infrared: float = 0.0  # share of scenes taken at night by infrared flash, in grey

    @model_validator(mode="after")
    def _ranges(self) -> SceneSettings:
        for name, value in self:
            if isinstance(value, tuple) and name != "grounds" and value[0] > value[1]:
                raise UserError(f"{name}: the range {value} is upside down")
        unknown = set(self.grounds) - set(backgrounds.GROUNDS)
        if unknown or not self.grounds:
            raise UserError(f"grounds: expected some of {', '.join(backgrounds.GROUNDS)}, got {self.grounds}")
        if self.animals[0] < 0 or min(self.width, self.height) < 64 or self.length[0] < 20:
            raise UserError("animals must not be negative, photos at least 64 px and bodies at least 20 px")
        return self


PRESETS = {
    "shore": SceneSettings(),
    # Never trained on: other grounds, light, proportions, distances and cameras.
    "shifted": SceneSettings(
        grounds=("sand", "ice", "vegetation"),
        girth=(0.105, 0.185),
        length=(110.0, 520.0),
        horizon=(-0.7, 0.45),
        flank=0.65,
        contrast=(0.1, 0.9),
        sun=(0.0, 0.95),
        warmth=(-0.12, 0.22),
        blur=(0.5, 1.6),
        noise=(3.0, 11.0),
        quality=(60, 90),
        infrared=0.3,
    ),
}


def preset(name: str) -> SceneSettings:
    """The settings called `name`. Raises UserError listing the names that exist."""
    if name not in PRESETS:
        raise UserError(f"There is no preset {name!r}. Known presets: {', '.join(PRESETS)}.")
    return PRESETS[name]


@dataclass(frozen=True)
class Scene:
    """A place at a time. `canvas`: float32 RGB, larger than a photo by MARGIN on each side."""

    settings: SceneSettings
    canvas: np.ndarray
    rocks: tuple[backgrounds.Sprite, ...]
    animals: tuple[Placement, ...]
    light: backgrounds.Light
    elevation: float  # degrees that the camera looks down
    infrared: bool
    softness: float  # blur, pixels
    grain: float  # noise, grey levels


@dataclass(frozen=True)
class Instance:
    """The truth about one animal in a photo.

    mask: bool, full photo, the visible pixels. rings: bool, full photo, those of them that are ring. visible: share of
    the animal's pixels that are seen (neither hidden nor outside), 0..1. yaw: degrees, 0..360. box: x0, y0, x1, y1
    of the mask in whole pixels, x1 and y1 exclusive.
    """

    identity: int
    side: str
    mask: np.ndarray
    rings: np.ndarray
    visible: float
    contrast: float
    yaw: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Photo:
    """image: uint8 RGB h x w x 3. instances: those with at least MIN_PIXELS visible pixels."""

    image: np.ndarray
    instances: list[Instance]


MIN_PIXELS = 250


def make_scene(
    rng: np.random.Generator, settings: SceneSettings, identities: list[int], yaws: list[float] | None = None
) -> Scene:
    """A place with these individuals (coat seeds). `yaws`: how they lie, degrees; drawn from the settings if None."""
    w, h = settings.width, settings.height
    mx, my = round(MARGIN * w), round(MARGIN * h)
    shape = (h + 2 * my, w + 2 * mx)
    level = rng.uniform(*settings.horizon)
    horizon = my + level * h
    shoreline = horizon + rng.uniform(0.05, 0.30) * h if rng.random() < 0.75 else -1.0
    if level < 0 and rng.random() < 0.5:
        shoreline = rng.uniform(0.0, 0.35) * h
    shoreline = min(shoreline, my + 0.5 * h)
    azimuth, altitude = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(20, 70))
    direction = np.array([np.cos(azimuth) * np.cos(altitude), np.sin(azimuth) * np.cos(altitude), np.sin(altitude)])
    warmth = rng.uniform(*settings.warmth)
    tint = (rng.uniform(0.8, 1.12) * np.array([1 + warmth, 1.0, 1 - warmth])).astype(np.float32)
    light = backgrounds.Light(direction, rng.uniform(*settings.sun), tint)
    ground = settings.grounds[rng.integers(len(settings.grounds))]
    canvas = backgrounds.backdrop(rng, ground, shape, horizon=horizon, shoreline=shoreline, light=light)
    animals = _place(rng, settings, identities, yaws, horizon=horizon, shoreline=shoreline)
    rocks = _rocks(rng, settings, ground, animals, horizon=horizon, light=light, shape=shape)
    return Scene(
        settings=settings,
        canvas=canvas,
        rocks=rocks,
        animals=animals,
        light=light,
        elevation=float(np.interp(level, [-0.7, 0.45], [32, 5])),
        infrared=bool(rng.random() < settings.infrared),
        softness=rng.uniform(*settings.blur),
        grain=rng.uniform(*settings.noise),
    )


def shoot(scene: Scene, rng: np.random.Generator, present: list[bool] | None = None, handheld: bool = True) -> Photo:
    """One photo of the scene. `present`: which of its animals are there (all, if absent); they also move a little."""
    settings = scene.settings
    w, h = settings.width, settings.height
    view, zoom, turn = _view(rng, scene, handheld)
    border = cv2.BORDER_REFLECT_101
    image = cv2.warpAffine(scene.canvas, view, (w, h), flags=cv2.INTER_LINEAR, borderMode=border)
    painting = Painting(image, scene.light, scene.elevation)
    whole: dict[int, int] = {}  # pixels of each animal, hidden ones too
    things: list[tuple[float, int, backgrounds.Sprite | Placement]] = [(r.base, -1, r) for r in scene.rocks]
    moved = [_fidget(rng, animal) for animal in scene.animals]
    things += [(a.y, i, a) for i, a in enumerate(moved) if present is None or present[i]]
    for _, i, thing in sorted(things, key=lambda t: t[:2]):
        if isinstance(thing, Placement):
            x, y = view @ [thing.x, thing.y, 1.0]
            shape, length = shape_of(thing.identity, settings), thing.length * zoom
            seen = body.render(shape, thing.pose, length, (x, y), elevation=scene.elevation, turn=turn)
            whole[i] = int(seen.mask.sum())
            painting.animal(rng, i, thing, seen)
        else:
            painting.sprite(thing, view)
    image = develop(rng, painting.image, blur=scene.softness, noise=scene.grain, infrared=scene.infrared)
    instances = []
    for i in sorted(whole):
        mask = painting.owner == i
        area = int(np.count_nonzero(mask))
        if area < MIN_PIXELS:
            continue
        x0, y0, bw, bh = cv2.boundingRect(mask.view(np.uint8))
        instances.append(
            Instance(
                identity=moved[i].identity,
                side=body.side(moved[i].pose, scene.elevation),
                mask=mask,
                rings=painting.rings & mask,
                visible=min(area / whole[i], 1.0),
                contrast=moved[i].contrast,
                yaw=moved[i].pose.yaw % 360,
                box=(x0, y0, x0 + bw, y0 + bh),
            )
        )
    return Photo(image, instances)


def render_photo(
    rng: np.random.Generator,
    settings: SceneSettings = PRESETS["shore"],
    n_animals: int | None = None,
    population: int = 200,
) -> Photo:
    """A photo for training, JPEG losses included, of `n_animals` out of `population` coats.

    `n_animals` None: drawn from the settings.
    """
    if n_animals is None:
        n_animals = int(rng.integers(settings.animals[0], settings.animals[1] + 1))
    identities = [int(i) for i in rng.choice(population, n_animals, replace=False)]
    photo = shoot(make_scene(rng, settings, identities), rng)
    quality = int(rng.integers(settings.quality[0], settings.quality[1] + 1))
    data = cv2.imencode(".jpg", photo.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return Photo(np.ascontiguousarray(decoded[..., ::-1]), photo.instances)


def shape_of(identity: int, settings: SceneSettings) -> body.Shape:
    """The proportions of an individual: the same for the same seed and settings."""
    rng = np.random.default_rng([identity, 2])
    return body.Shape(girth=rng.uniform(*settings.girth), head=rng.uniform(0.9, 1.12))


def flank_yaw(rng: np.random.Generator, side: str) -> float:
    """A yaw that shows `side` (left, right, front or back), in degrees."""
    return {"left": 0.0, "front": 90.0, "right": 180.0, "back": 270.0}[side] + float(
        np.clip(rng.normal(0, 16), -38, 38)
    )


def _place(
    rng: np.random.Generator,
    settings: SceneSettings,
    identities: list[int],
    yaws: list[float] | None,
    *,
    horizon: float,
    shoreline: float,
) -> tuple[Placement, ...]:
    """Puts the animals on the ground so that few of them hide each other; near ones are larger, as in perspective."""
    w, h = settings.width, settings.height
    mx, my = MARGIN * w, MARGIN * h
    lo, hi = settings.length
    near = np.exp(rng.uniform(np.log(min(2.5 * lo, hi)), np.log(hi))) * 1.25
    near *= min(1.0, 2.2 / max(len(identities), 1) ** 0.5)
    top, bottom = max(shoreline + 0.06 * h, horizon + 0.15 * h, my + 0.12 * h), my + 0.95 * h
    pale, wet = rng.uniform(0, 0.7), rng.random()  # weather: much the same for all animals of a scene
    placed: list[Placement] = []
    for k, identity in enumerate(identities):
        if yaws is not None:
            yaw = yaws[k]
        elif rng.random() < settings.flank:
            yaw = flank_yaw(rng, ("left", "right")[rng.integers(2)])
        else:
            yaw = flank_yaw(rng, ("front", "back")[rng.integers(2)])
        for attempt in range(60):
            shrink = 0.97**attempt
            y = rng.uniform(top, bottom)
            scale = (y - horizon) / (my + h - horizon)
            length = float(np.clip(near * shrink * scale * rng.uniform(0.9, 1.1), lo, hi))
            x = mx + w / 2 + rng.uniform(-0.5, 0.5) * max(w - 0.8 * length, 0.2 * w)  # few are cut off by the border
            if all(_apart(x, y, length, p) for p in placed):
                break
        pose = body.Pose(
            yaw=yaw,
            roll=float(np.clip(rng.normal(0, 14), -35, 35)),
            bend=float(rng.normal(0, 18)),
            nod=float(max(rng.normal(12, 16), -5)),
            tail=float(max(rng.normal(8, 12), 0)),
        )
        placed.append(
            Placement(
                identity,
                x,
                y,
                length,
                pose,
                float(rng.uniform(*settings.contrast)),
                float(np.clip(wet + rng.normal(0, 0.2), 0, 1)),
                float(np.clip(pale + rng.normal(0, 0.15), 0, 1)),
            )
        )
    return tuple(placed)


def _apart(x: float, y: float, length: float, other: Placement) -> bool:
    """Whether two animals hide at most a small part of each other."""
    mean = (length + other.length) / 2
    return bool(np.hypot((x - other.x) / (0.95 * mean), (y - other.y) / (0.26 * mean)) > 1)


def _rocks(
    rng: np.random.Generator,
    settings: SceneSettings,
    ground: str,
    animals: tuple[Placement, ...],
    *,
    horizon: float,
    light: backgrounds.Light,
    shape: tuple[int, int],
) -> tuple[backgrounds.Sprite, ...]:
    """Rocks anywhere, in the water too, and some on purpose before an animal."""
    h, w = shape
    rocks = []
    for _ in range(rng.integers(2, 12)):
        y = rng.uniform(max(horizon + 0.04 * h, 0.05 * h), h)
        scale = (y - horizon) / (h - horizon)
        x, width = rng.uniform(0, w), rng.lognormal(np.log(170), 0.6) * scale
        if width > 8 and all(abs(x - a.x) > 0.35 * (width + a.length) or y < a.y - 0.1 * a.length for a in animals):
            rocks.append(backgrounds.rock(rng, ground, (x, y), min(width, 0.4 * w), light))
    for a in animals:
        if rng.random() < settings.hidden:
            width = a.length * rng.uniform(0.25, 0.55)
            x = a.x + rng.choice([-1, 1]) * a.length * rng.uniform(0.15, 0.5)
            y = a.y + a.length * rng.uniform(0.03, 0.09)
            rocks.append(backgrounds.rock(rng, ground, (x, y), width, light))
    return tuple(rocks)


def _view(rng: np.random.Generator, scene: Scene, handheld: bool) -> tuple[np.ndarray, float, float]:
    """Canvas to photo: (2 x 3 matrix, zoom, clockwise turn in degrees). Whoever photographs aims at the animals."""
    w, h = scene.settings.width, scene.settings.height
    zoom = rng.uniform(*scene.settings.zoom) if handheld else 1.0
    turn = float(np.clip(rng.normal(0, 1.5), -4, 4)) if handheld else 0.0
    slack = 0.5 * (1 - 1 / zoom) + (0.04 if handheld else 0.0)
    middle = np.array([0.5 + MARGIN, 0.5 + MARGIN])
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
