"""One photo of a scene: the camera moves a little, so do the animals, and the truth is written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pusa.synthetic.photo import MIN_PIXELS, Instance, Photo
from pusa.synthetic.renderer_b import film
from pusa.synthetic.renderer_b.body import Mesh, mesh
from pusa.synthetic.renderer_b.camera import Camera, rasterize
from pusa.synthetic.renderer_b.fields import f32, smooth
from pusa.synthetic.renderer_b.place import COARSE, blend, shadow
from pusa.synthetic.renderer_b.scene import Actor, Scene, seen_side
from pusa.synthetic.renderer_b.skin import colours, drawn_contrast, is_ring, ring_strength

STEEP = 0.2  # cosine to the line of sight below which no ring counts as seen
OUTLINE = 0.75  # softness of an animal's outline, pixels


@dataclass(frozen=True)
class Seen:
    """An animal as drawn: every pixel of it that its own body does not hide, also those beyond the photo's border.

    x, y: int32 N. shown: bool N, in the photo and hidden by nothing but other animals. rings: bool N. surface: uint8
    N x 3 as in photo.Instance.
    """

    actor: Actor
    x: np.ndarray
    y: np.ndarray
    shown: np.ndarray
    rings: np.ndarray
    surface: np.ndarray


def shoot(scene: Scene, rng: np.random.Generator, present: Sequence[bool] | None = None) -> Photo:
    """Takes a photo. present: for each animal whether it is there; None = all are. Same state of `rng`, same photo."""
    look, camera = scene.look, scene.camera
    move, zoom, turn = _aim(scene, rng)
    actors = [_stir(a, camera, rng) for a in scene.actors]
    if present is not None:
        actors = [a for a, here in zip(actors, present, strict=True) if here]
    size = look.width, look.height
    still = scene.fixed
    colour = scene.canvas.colour.copy() if still else _moved(scene.canvas.colour, move, size, cv2.INTER_LINEAR)
    water = scene.canvas.water if still else _moved(scene.canvas.water, move, size, cv2.INTER_LINEAR)
    depth = scene.canvas.depth if still else _moved(scene.canvas.depth, move, size, cv2.INTER_NEAREST)
    actors.sort(key=lambda a: -float(np.hypot(a.pose.x, a.pose.z)))
    bodies = [mesh(a.shape, a.pose) for a in actors]
    for actor, body in zip(actors, bodies, strict=True):
        where = f32(depth > camera.project(np.array([[actor.pose.x, 0, actor.pose.z]]))[1][0] - 0.6)
        if actor.pose.sink:
            _reflect(colour, camera, body, move, water)
        else:
            shadow(colour, camera, body.points, body.faces, scene.light, actor.pose.base, move, where)
    seen = [_draw(colour, scene, a, b, move, depth) for a, b in zip(actors, bodies, strict=True)]
    bottom = film.bar_top(look.height) if scene.night else look.height
    instances = _instances(seen, look.width, look.height, bottom, scene)
    image, settings = _develop(scene, colour, rng)
    settings |= {"zoom": round(zoom, 3), "turn": round(turn, 2)}
    quality = int(rng.integers(look.quality[0], look.quality[1] + 1))
    return Photo(image, instances, quality, settings)


def _aim(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """Zoom, turn (degrees) and aim of a shot as a 2 x 3 matrix from pixels of the canvas to those of the photo."""
    look, camera = scene.look, scene.camera
    zoom, turn = rng.uniform(0.92, 1.22), rng.normal(0, 2.0)
    shift = rng.normal(0, 0.02, 2) * look.width
    if scene.fixed:
        return np.array([[1.0, 0, 0], [0, 1, 0]]), 1.0, 0.0
    centre = (camera.width - 1) / 2, (camera.height - 1) / 2
    move = cv2.getRotationMatrix2D(centre, turn, zoom)
    move[:, 2] += [(look.width - camera.width) / 2 + shift[0], (look.height - camera.height) / 2 + shift[1]]
    return move, float(zoom), float(turn)


def _moved(picture: np.ndarray, move: np.ndarray, size: tuple[int, int], how: int) -> np.ndarray:
    return cv2.warpAffine(picture, move, size, flags=how, borderMode=cv2.BORDER_REFLECT_101)


def _stir(actor: Actor, camera: Camera, rng: np.random.Generator) -> Actor:
    """The animal a little later: head, bend, a little roll and yaw, as long as it still shows the same side."""
    d = rng.standard_normal(6)
    pose = actor.pose
    later = replace(
        pose,
        yaw=(pose.yaw + 2.5 * d[0]) % 360,
        roll=pose.roll + 2.5 * d[1],
        neck=pose.neck + 5 * d[2],
        look=pose.look + 9 * d[3],
        bend=pose.bend + 4 * d[4],
        rear=max(pose.rear + 5 * d[5], 0.0),
    )
    return replace(actor, pose=later if seen_side(camera, later) == seen_side(camera, pose) else pose)


def _reflect(colour: np.ndarray, camera: Camera, body: Mesh, move: np.ndarray, water: np.ndarray) -> None:
    """The dark mirror image of a swimming animal on the water around it; `colour` is changed in place."""
    height, width = water.shape
    pixels, far = camera.project(body.points * np.array([1, -1, 1], np.float32))
    pixels = (pixels @ move[:, :2].T + move[:, 2]) / COARSE
    got = rasterize(pixels, far, body.faces, (0, 0, -(-width // COARSE), -(-height // COARSE)))
    above = got.mix(body.points)[:, 1] > 0
    mask = np.zeros((-(-height // COARSE), -(-width // COARSE)), np.float32)
    mask[got.y[above], got.x[above]] = 1
    unit = camera.focal / camera.distance / COARSE
    wave = np.round(np.sin(np.arange(len(mask)) * 40 / unit) * 0.02 * unit).astype(int)
    mask = np.stack([np.roll(row, shift) for row, shift in zip(mask, wave, strict=True)])
    mask = cv2.GaussianBlur(mask, (0, 0), max(0.015 * unit, 0.5), sigmaY=max(0.03 * unit, 0.7))
    colour *= 1 - 0.55 * (cv2.resize(mask, (width, height)) * water)[..., None]


def _draw(colour: np.ndarray, scene: Scene, actor: Actor, body: Mesh, move: np.ndarray, scenery: np.ndarray) -> Seen:
    """Draws an animal over `colour` and returns what is seen of it."""
    camera, pose = scene.camera, actor.pose
    height, width = scenery.shape
    pixels, far = camera.project(body.points)
    pixels = pixels @ move[:, :2].T + move[:, 2]
    low, high = np.floor(pixels.min(0)).astype(int), np.ceil(pixels.max(0)).astype(int) + 1
    got = rasterize(pixels, far, body.faces, (int(low[0]), int(low[1]), int(high[0]), int(high[1])))
    points, normals, skin = got.mix(body.points), got.mix(body.normals), got.mix(body.skin)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-6
    skin[:, 2] = skin[:, 2] > 0.5
    view = (camera.place - points).astype(np.float32)
    view /= np.linalg.norm(view, axis=1, keepdims=True)
    facing = (normals * view).sum(1)
    shown = (got.x >= 0) & (got.y >= 0) & (got.x < width) & (got.y < height)
    x, y = got.x[shown], got.y[shown]
    swell = 0.008 * np.sin(points[shown, 0] * 23 + 3 * np.sin(points[shown, 2] * 17)) if pose.sink else -1.0
    shown[shown] = (scenery[y, x] > got.depth[shown]) & (points[shown, 1] > swell)
    zoom = float(np.hypot(move[0, 0], move[0, 1]))
    footprint = float(np.median(got.depth)) / (camera.focal * zoom * actor.shape.length) if len(got.depth) else 1.0
    strength = ring_strength(actor.animal.identity, skin, footprint)
    body_only = skin[:, 2] > 0
    surface = np.zeros((len(skin), 3), np.uint8)
    surface[body_only, :2] = np.round(skin[body_only, :2] * 255)
    surface[body_only, 2] = np.clip(np.round(facing[body_only] * 255), 1, 255)
    n = np.flatnonzero(shown)
    paint = colours(actor, skin[n], normals[n], points[n, 1] - pose.base, view[n], strength[n], scene.light)
    if pose.sink:  # a rim of wet fur and bright water where the animal cuts the surface
        paint += (0.12 * smooth(points[n, 1], 0.01, 0.003))[:, None] * scene.light.rim
    paint *= scene.light.reach(got.depth[n], camera.distance)[:, None]
    blend(colour, got.x[n], got.y[n], paint, OUTLINE)
    rings = is_ring(strength, footprint) & body_only & (facing > STEEP)
    return Seen(actor, got.x, got.y, shown, rings, surface)


def _instances(seen: Sequence[Seen], width: int, height: int, bottom: int, scene: Scene) -> list[Instance]:
    """The truth, the nearest animal first. seen: from far to near. bottom: row below which a bar covers the photo."""
    taken = np.zeros((height, width), bool)
    taken[bottom:] = True
    out = []
    for item in reversed(seen):
        n = np.flatnonzero(item.shown)
        n = n[~taken[item.y[n], item.x[n]]]
        x, y = item.x[n], item.y[n]
        mask = np.zeros((height, width), bool)
        mask[y, x] = True
        taken |= mask
        if len(n) < MIN_PIXELS:
            continue
        rings = np.zeros_like(mask)
        rings[y, x] = item.rings[n]
        box = int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
        surface = np.zeros((box[3] - box[1], box[2] - box[0], 3), np.uint8)
        surface[y - box[1], x - box[0]] = item.surface[n]
        actor, pose = item.actor, item.actor.pose
        out.append(
            Instance(
                identity=actor.animal.identity,
                side=seen_side(scene.camera, pose),
                box=box,
                mask=mask,
                rings=rings,
                surface=surface,
                visible=len(n) / len(item.x),
                contrast=drawn_contrast(actor),
                yaw=float(pose.yaw + np.degrees(np.arctan2(pose.x, pose.z))) % 360,
            )
        )
    return out


def _develop(scene: Scene, colour: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, dict]:
    """Lens, sensor and stamp: uint8 RGB and the settings that made it."""
    look = scene.look
    scale = look.width / 1280
    blur = float(rng.uniform(*look.blur)) * scale
    shaken = bool(rng.random() < look.shake)
    length, angle = float(rng.uniform(*look.motion)) * scale * shaken, float(rng.uniform(0, np.pi))
    noise = float(rng.uniform(*look.noise))
    exposure = float(np.exp(rng.normal(0, 0.07)))
    rows = np.linspace(0, scene.camera.height - 1, look.height)
    depth = scene.camera.ground(np.zeros(1), rows)[2] / scene.camera.distance
    clear = ((1 - scene.haze) ** np.clip(depth**1.5, 0, 8)).astype(np.float32)[:, None, None]
    colour *= clear
    colour += (1 - clear) * 0.7 * scene.light.rim
    if blur > 0.3:
        colour = cv2.GaussianBlur(colour, (0, 0), blur)
    if length > 1:
        colour = film.shake(colour, length, angle)
    colour *= film.vignette(look.width, look.height, 0.55 if scene.night else 0.1)
    picture = film.develop(rng, colour, scene.gain * exposure, scene.white, noise * (1.5 if scene.night else 1))
    if scene.night:
        picture = film.night_vision(picture)
    image = picture.astype(np.uint8)
    if scene.night:
        film.stamp(image, scene.night)
    settings = {
        "renderer": "b",
        "ground": scene.ground,
        "infrared": scene.night is not None,
        "sun": round(float(np.degrees(np.arcsin(scene.light.toward[1]))), 1),
        "haze": round(scene.haze, 3),
        "blur": round(blur, 3),
        "motion": round(length, 2),
        "noise": round(noise, 4),
        "exposure": round(exposure, 3),
        "fixed": scene.fixed,
    }
    return image, settings
