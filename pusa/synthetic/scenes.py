"""Photos of seals on a shore, with the truth about every animal: who, which side, which pixels, which of them are ring.

A scene (background, rocks, places of the animals, light) lives on a canvas larger than a photo. `shoot` takes one photo of it
with a view of its own (zoom, shift, turn), as somebody with a camera in hand would; so a sequence is one scene and several shots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from pydantic import model_validator

from pusa.config import Config
from pusa.errors import UserError
from pusa.synthetic import backgrounds, body
from pusa.synthetic.coats import Coat, coat
from pusa.synthetic.noise import fractal

MARGIN = 0.15  # canvas beyond each border of an unzoomed photo, as a share of the photo


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
                raise ValueError(f"{name}: the range {value} is upside down")
        unknown = set(self.grounds) - set(backgrounds.GROUNDS)
        if unknown or not self.grounds:
            raise ValueError(f"grounds: expected some of {', '.join(backgrounds.GROUNDS)}, got {self.grounds}")
        if self.animals[0] < 0 or min(self.width, self.height) < 64 or self.length[0] < 20:
            raise ValueError("animals must not be negative, photos at least 64 px and bodies at least 20 px")
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
class Placement:
    """One animal in a scene: whose coat (seed), where its middle rests on the canvas (pixels), its length (pixels), how it lies.

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


@dataclass(frozen=True)
class Scene:
    """A place at a time. `canvas`: float32 RGB, larger than a photo by MARGIN on each side."""

    settings: SceneSettings
    canvas: np.ndarray
    rocks: tuple[backgrounds.Sprite, ...]
    animals: tuple[Placement, ...]
    light: np.ndarray  # unit vector towards the sun, world axes
    sun: float
    tint: np.ndarray
    elevation: float  # degrees that the camera looks down
    infrared: bool
    softness: float  # blur, pixels
    grain: float  # noise, grey levels


@dataclass(frozen=True)
class Instance:
    """The truth about one animal in a photo.

    mask: bool, full photo, the visible pixels. rings: bool, full photo, the visible pixels that are ring. visible: share of the
    animal's pixels that are seen (neither hidden nor outside). box: x0, y0, x1, y1 of the mask in whole pixels, x1 and y1 exclusive.
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
    """A place with these individuals (coat seeds), each at least mostly free. `yaws`: degrees, drawn at random if absent."""
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
    light = np.array([np.cos(azimuth) * np.cos(altitude), np.sin(azimuth) * np.cos(altitude), np.sin(altitude)])
    warmth = rng.uniform(*settings.warmth)
    tint = (rng.uniform(0.8, 1.12) * np.array([1 + warmth, 1.0, 1 - warmth])).astype(np.float32)
    ground = settings.grounds[rng.integers(len(settings.grounds))]
    sun = rng.uniform(*settings.sun)
    canvas = backgrounds.backdrop(rng, ground, shape, horizon, shoreline, tint)
    animals = _place(rng, settings, identities, yaws, horizon, shoreline)
    rocks = _rocks(rng, settings, ground, animals, horizon, shoreline, light, sun, shape)
    rocks = tuple(replace(r, rgb=np.clip(r.rgb * tint, 0, 255)) for r in rocks)
    return Scene(
        settings=settings,
        canvas=canvas,
        rocks=rocks,
        animals=animals,
        light=light,
        sun=sun,
        tint=tint,
        elevation=float(np.interp(level, [-0.7, 0.45], [32, 5])),
        infrared=bool(rng.random() < settings.infrared),
        softness=rng.uniform(*settings.blur),
        grain=rng.uniform(*settings.noise),
    )


def shoot(
    scene: Scene, rng: np.random.Generator, present: list[bool] | None = None, handheld: bool = True
) -> Photo:
    """One photo of the scene. `present`: which of its animals are there (all, if absent); they also move a little."""
    settings = scene.settings
    w, h = settings.width, settings.height
    view, zoom, turn = _view(rng, settings, handheld)
    border = cv2.BORDER_REFLECT_101
    image = cv2.warpAffine(scene.canvas, view, (w, h), flags=cv2.INTER_LINEAR, borderMode=border)
    owner = np.full((h, w), -1, np.int16)  # which animal a pixel shows
    rings = np.zeros((h, w), bool)
    drawn: dict[int, tuple[Placement, int]] = {}
    things: list[tuple[float, int, backgrounds.Sprite | Placement]] = [(r.base, -1, r) for r in scene.rocks]
    for i, animal in enumerate(scene.animals):
        moved = _fidget(rng, animal)
        if present is None or present[i]:
            things.append((moved.y, i, moved))
    for _, i, thing in sorted(things, key=lambda t: t[:2]):
        if isinstance(thing, Placement):
            x, y = view @ np.array([thing.x, thing.y, 1.0])
            seen = body.render(shape_of(thing.identity, settings), thing.pose, thing.length * zoom, (x, y), scene.elevation, turn)
            drawn[i] = thing, int(seen.mask.sum())
            _draw_animal(image, owner, rings, seen, thing, i, scene, rng)
        else:
            _draw_sprite(image, owner, rings, thing, view)
    image = _develop(rng, image, scene)
    instances = []
    for i, (animal, whole) in drawn.items():
        mask = owner == i
        area = int(np.count_nonzero(mask))
        if area < MIN_PIXELS:
            continue
        x0, y0, bw, bh = cv2.boundingRect(mask.view(np.uint8))
        side = body.side(animal.pose, scene.elevation)
        instances.append(
            Instance(
                animal.identity, side, mask, rings & mask, min(area / whole, 1.0), animal.contrast, animal.pose.yaw % 360,
                (x0, y0, x0 + bw, y0 + bh),
            )
        )
    return Photo(image, instances)


def render_photo(
    rng: np.random.Generator, settings: SceneSettings = PRESETS["shore"], n_animals: int | None = None, population: int = 200
) -> Photo:
    """A photo for training, JPEG losses included, of `n_animals` (drawn from the settings if None) out of `population` coats."""
    n = int(rng.integers(settings.animals[0], settings.animals[1] + 1)) if n_animals is None else n_animals
    identities = [int(i) for i in rng.choice(population, n, replace=False)]
    photo = shoot(make_scene(rng, settings, identities), rng)
    quality = int(rng.integers(settings.quality[0], settings.quality[1] + 1))
    data = cv2.imencode(".jpg", photo.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return Photo(np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]), photo.instances)


def shape_of(identity: int, settings: SceneSettings) -> body.Shape:
    """The proportions of an individual: the same for the same seed and settings."""
    rng = np.random.default_rng([identity, 2])
    return body.Shape(girth=rng.uniform(*settings.girth), head=rng.uniform(0.9, 1.12))


def flank_yaw(rng: np.random.Generator, side: str) -> float:
    """A yaw that shows `side` (left, right, front or back), in degrees."""
    return {"left": 0.0, "front": 90.0, "right": 180.0, "back": 270.0}[side] + float(np.clip(rng.normal(0, 16), -38, 38))


def _place(
    rng: np.random.Generator,
    settings: SceneSettings,
    identities: list[int],
    yaws: list[float] | None,
    horizon: float,
    shoreline: float,
) -> tuple[Placement, ...]:
    """Puts the animals on the ground so that few of them hide each other: near ones are larger, as perspective wants it."""
    w, h = settings.width, settings.height
    mx, my = MARGIN * w, MARGIN * h
    lo, hi = settings.length
    near = np.exp(rng.uniform(np.log(min(1.6 * lo, hi)), np.log(hi)))
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
            x, y = mx + rng.uniform(0.08, 0.92) * w, rng.uniform(top, bottom)
            scale = (y - horizon) / (my + h - horizon)
            length = float(np.clip(near * shrink * scale * rng.uniform(0.9, 1.1), lo, hi))
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
                identity, x, y, length, pose, float(rng.uniform(*settings.contrast)),
                float(np.clip(wet + rng.normal(0, 0.2), 0, 1)), float(np.clip(pale + rng.normal(0, 0.15), 0, 1)),
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
    horizon: float,
    shoreline: float,
    light: np.ndarray,
    sun: float,
    shape: tuple[int, int],
) -> tuple[backgrounds.Sprite, ...]:
    """Rocks anywhere, in the water too, and some on purpose before an animal; none right behind one, where it would look cut out."""
    h, w = shape
    rocks = []
    for _ in range(rng.integers(2, 12)):
        y = rng.uniform(max(horizon + 0.04 * h, 0.05 * h), h)
        scale = (y - horizon) / (h - horizon)
        x, width = rng.uniform(0, w), rng.lognormal(np.log(170), 0.6) * scale
        if width > 8 and all(abs(x - a.x) > 0.35 * (width + a.length) or y < a.y - 0.1 * a.length for a in animals):
            rocks.append(backgrounds.rock(rng, ground, x, y, min(width, 0.4 * w), light, sun))
    for a in animals:
        if rng.random() < settings.hidden:
            width = a.length * rng.uniform(0.25, 0.55)
            x = a.x + rng.choice([-1, 1]) * a.length * rng.uniform(0.15, 0.5)
            rocks.append(backgrounds.rock(rng, ground, x, a.y + a.length * rng.uniform(0.03, 0.09), width, light, sun))
    return tuple(rocks)


def _view(rng: np.random.Generator, settings: SceneSettings, handheld: bool) -> tuple[np.ndarray, float, float]:
    """Canvas to photo: (2 x 3 matrix, zoom, clockwise turn in degrees)."""
    w, h = settings.width, settings.height
    zoom = rng.uniform(*settings.zoom) if handheld else 1.0
    turn = float(np.clip(rng.normal(0, 1.5), -4, 4)) if handheld else 0.0
    slack = 0.5 * (1 - 1 / zoom) + (0.04 if handheld else 0.0)
    centre = np.array([0.5 + MARGIN + rng.uniform(-slack, slack), 0.5 + MARGIN + rng.uniform(-slack, slack)]) * [w, h]
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
    return replace(animal, pose=pose, x=animal.x + float(rng.normal(0, step)), y=animal.y + float(rng.normal(0, step / 3)))


def _clip(x0: int, y0: int, shape: tuple[int, ...], size: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """The part of a patch of `shape` at (x0, y0) that lies in a photo of `size`: slices of photo and patch, None if nothing does."""
    x1, y1 = min(x0 + shape[1], size[1]), min(y0 + shape[0], size[0])
    left, top = max(x0, 0), max(y0, 0)
    if x1 <= left or y1 <= top:
        return None
    return (slice(top, y1), slice(left, x1)), (slice(top - y0, y1 - y0), slice(left - x0, x1 - x0))


def _draw_sprite(
    image: np.ndarray, owner: np.ndarray, rings: np.ndarray, sprite: backgrounds.Sprite, view: np.ndarray
) -> None:
    h, w = sprite.alpha.shape
    corners = view @ np.array([[0, w, 0, w], [0, 0, h, h], [0, 0, 0, 0]]) + (view @ [sprite.x0, sprite.y0, 1.0])[:, None]
    x0, y0 = np.floor(corners.min(axis=1)).astype(int) - 1
    x1, y1 = np.ceil(corners.max(axis=1)).astype(int) + 1
    matrix = view.copy()
    matrix[:, 2] = view @ [sprite.x0, sprite.y0, 1.0] - [x0, y0]
    where = _clip(x0, y0, (y1 - y0, x1 - x0), owner.shape)
    if where is None:
        return
    place, patch = where
    alpha = cv2.warpAffine(sprite.alpha, matrix, (x1 - x0, y1 - y0))[patch]
    rgb = cv2.warpAffine(sprite.rgb, matrix, (x1 - x0, y1 - y0), borderMode=cv2.BORDER_REPLICATE)[patch]
    image[place] += alpha[..., None] * (rgb - image[place])
    owner[place][alpha > 0.5] = -1
    rings[place][alpha > 0.5] = False


def _draw_animal(
    image: np.ndarray,
    owner: np.ndarray,
    rings: np.ndarray,
    seen: body.View,
    animal: Placement,
    number: int,
    scene: Scene,
    rng: np.random.Generator,
) -> None:
    """Paints one animal and its shadow over what is there, and takes its pixels in `owner` and `rings`."""
    fur = coat(animal.identity)
    _contact_shadow(image, seen, animal, scene)
    where = _clip(seen.x0, seen.y0, seen.mask.shape, owner.shape)
    if where is None:
        return
    place, patch = where
    colour, ring = _fur(fur, seen, animal)
    colour *= _lighting(seen, animal, scene)[..., None]
    colour *= 1 + 0.045 * fractal(rng, seen.mask.shape, 6, 2)[..., None]
    colour = np.clip(colour * scene.tint, 0, 255)
    # Soft outline. Colours must be spread over the border first, or it mixes with the black outside.
    alpha = cv2.GaussianBlur(seen.mask.astype(np.float32), (3, 3), 0)
    weight = np.maximum(alpha, 1e-3)[..., None]
    spread = cv2.GaussianBlur(colour * seen.mask[..., None], (3, 3), 0) / weight
    colour = np.where(seen.mask[..., None], colour, spread)[patch]
    alpha = alpha[patch][..., None]
    image[place] += alpha * (colour - image[place])
    mask = seen.mask[patch]
    owner[place][mask] = number
    rings[place][mask] = ring[patch][mask]


def _fur(fur: Coat, seen: body.View, animal: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Colour of the fur (float32 RGB) and which pixels are ring (bool), on the pixels of `seen`."""
    # Reduced to the size in the photo first (as mipmaps do), else thin lines break up into dots.
    width = int(np.clip(1.5 * animal.length, 64, fur.size))
    size = (width, round(width * fur.base.shape[0] / fur.size))
    texture = cv2.resize(np.dstack([fur.base, fur.soft]), size, interpolation=cv2.INTER_AREA)
    x = seen.s * size[0] - 0.5
    y = seen.theta * (size[1] / (2 * np.pi)) - 0.5
    values = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP).astype(np.float32)
    colour, strength = values[..., :3], values[..., 3:] / 255
    bleached = np.float32([150, 140, 122])
    light = fur.light + 0.3 * animal.pale * (bleached - fur.light)
    colour = colour + 0.55 * animal.pale * (1 - 0.35 * animal.wet) * (bleached - colour) * (colour > 25)
    colour += animal.contrast * strength * (light - colour)
    flipper = seen.part == body.FLIPPER
    colour[flipper] = fur.flipper + 0.3 * animal.pale * (bleached - fur.flipper)
    exact = cv2.resize(fur.rings.view(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
    ring = cv2.remap(exact, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP) > 115
    return colour, ring & ~flipper & (seen.facing > 0.2)


def _lighting(seen: body.View, animal: Placement, scene: Scene) -> np.ndarray:
    """Brightness factor per pixel: light from the sky, the sun, the ground, and the gloss of wet fur."""
    n = seen.normal
    sky = 0.62 + 0.38 * n[..., 2]
    sun = np.clip(n @ scene.light.astype(np.float32), 0, 1)
    shade = (1 - 0.7 * scene.sun) * sky + 1.2 * scene.sun * sun
    half = scene.light + body.to_camera(scene.elevation)
    half = (half / np.linalg.norm(half)).astype(np.float32)
    gloss = np.clip(n @ half, 0, 1) ** 24 * scene.sun * animal.wet
    return (shade * (1 - 0.3 * animal.wet) + 1.4 * gloss).astype(np.float32)


def _contact_shadow(image: np.ndarray, seen: body.View, animal: Placement, scene: Scene) -> None:
    """Darkens the ground below and beside the animal: the mask, pressed flat, moved away from the sun and blurred."""
    h, w = seen.mask.shape
    pad = max(int(0.12 * w), int(0.25 * h)) + 4
    flat = np.zeros((h + 2 * pad, w + 2 * pad), np.float32)
    shift = -scene.light[0] * 0.3 * h * (0.3 + scene.sun), 0.06 * h - min(scene.light[1], 0) * 0.15 * h
    matrix = np.array([[1, 0, pad + shift[0]], [0, 0.5, pad + 0.5 * h + shift[1]]])
    cv2.warpAffine(seen.mask.astype(np.float32), matrix, flat.shape[::-1], dst=flat)
    flat = cv2.GaussianBlur(flat, (0, 0), max(0.05 * h, 1.0))
    where = _clip(seen.x0 - pad, seen.y0 - pad, flat.shape, image.shape)
    if where is not None:
        place, patch = where
        image[place] *= 1 - (0.4 + 0.25 * scene.sun) * flat[patch][..., None]


def _develop(rng: np.random.Generator, image: np.ndarray, scene: Scene) -> np.ndarray:
    """From the painted picture to a photo: infrared flash, lens blur, vignette, exposure, noise; uint8 RGB."""
    h, w = image.shape[:2]
    y, x = np.ogrid[-1 : 1 : complex(0, h), -1 : 1 : complex(0, w)]
    far = (x**2 + y**2).astype(np.float32)
    gain = 1 - rng.uniform(0.0, 0.12) * far
    if scene.infrared:
        grey = image @ np.float32([0.5, 0.35, 0.15])
        image = np.repeat((grey * np.exp(-0.75 * far) * 1.1)[..., None], 3, axis=2)
    image = cv2.GaussianBlur(image, (0, 0), scene.softness)
    mean = float(image[::8, ::8].mean())
    target = rng.uniform(95, 135)
    image *= gain[..., None] * np.float32(np.clip(target / max(mean, 1.0), 0.7, 1.4))
    grain = rng.standard_normal((h, w), dtype=np.float32)
    image += (scene.grain * grain)[..., None]
    if not scene.infrared:
        colours = rng.standard_normal((h // 2, w // 2, 3), dtype=np.float32) * np.float32(scene.grain * 0.6)
        image += cv2.resize(colours, (w, h), interpolation=cv2.INTER_LINEAR)
    return np.clip(image, 0, 255).astype(np.uint8)
