"""Places on coats that are drawn for the purpose: as many classes as wanted, and no files of patches.

A member of a class is that place as it would come out of the extraction in different photos: turned, shifted, seen at
an angle, with thicker or thinner lines, gaps, blobs, and parts hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pusa.pattern import extract, patches
from pusa.synthetic.renderer_a.rings import RingModel, ring_map

OVERSAMPLING = 1.5  # patterns are kept with lines so many times the normal thickness: turning them does no harm then
SHIFT = 12  # px, of a place from the middle of its patch: half a stride of 16, and what the extraction adds
MIN_WHITE = 0.12  # of a place to be a class: extraction keeps patches of 0.10
COAT_SIZE = 480  # px of a body length on the coats drawn here: lines of about 5 px


@dataclass(frozen=True)
class Coat:
    """One animal: its pattern in several versions (H, W) uint8 with lines OVERSAMPLING x as thick, the scale of each
    (its pixels per pixel of the drawing), and the centres (n, 2) of its places, x, y in pixels of the drawing."""

    versions: list[np.ndarray]
    scales: list[float]
    places: np.ndarray


def draw_coat(rng: np.random.Generator, model: RingModel, versions: int, extraction: extract.PatternConfig) -> Coat:
    """A coat, its versions with thickness normalised as in the extraction, and its places: apart by about a patch."""
    drawn = ring_map(rng, model=model)
    thinner = cv2.erode(drawn.astype(np.uint8), np.ones((3, 3), np.uint8))  # as thick as in photos of the same animals
    rings = patches.resize(thinner > 0, (COAT_SIZE, round(drawn.shape[0] * COAT_SIZE / drawn.shape[1])))
    around = np.pad(rings, ((COAT_SIZE // 4, COAT_SIZE // 4), (0, 0)), mode="wrap")  # theta is periodic
    config = extraction.model_copy(update={"line_thickness": extraction.line_thickness * OVERSAMPLING})
    normalised = [extract.normalise_thickness(_worn(around, rng), config) for _ in range(versions)]
    # Blurred, so that reading every second pixel means reading all.
    pictures = [cv2.GaussianBlur(p.astype(np.uint8) * 255, (0, 0), 0.7) for p, _ in normalised]
    return Coat(pictures, [scale for _, scale in normalised], _places(around, extraction.line_thickness, rng))


def _worn(rings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pattern as another photo shows it: lines thicker or thinner, and here and there missing or run together."""
    h, w = rings.shape
    soft = cv2.GaussianBlur(rings.astype(np.float32), (0, 0), rng.uniform(1.0, 2.2))
    coarse = rng.normal(0, rng.uniform(0.03, 0.12), (h // 12, w // 12)).astype(np.float32)
    uneven = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)
    return soft + uneven > rng.uniform(0.32, 0.55)


def _places(rings: np.ndarray, line_thickness: float, rng: np.random.Generator) -> np.ndarray:
    """Centres (n, 2) of places on a jittered grid, a patch apart, where the pattern is dense enough to give patches."""
    side = round(patches.SIZE * extract.thickness(rings) / line_thickness)  # of a patch, in pixels of the drawing
    offset = rng.uniform(0, side, 2)
    xs = np.arange(offset[0], rings.shape[1], side)
    ys = np.arange(COAT_SIZE // 4 + offset[1] / 2, rings.shape[0] - COAT_SIZE // 4, side)
    density = cv2.blur(rings.astype(np.float32), (side, side), borderType=cv2.BORDER_CONSTANT)
    return np.array([(x, y) for y in ys for x in xs if density[int(y), int(x)] >= MIN_WHITE]).reshape(-1, 2)


def warp(
    picture: np.ndarray, centre: np.ndarray, scale: float, difficulty: float, rng: np.random.Generator
) -> np.ndarray:
    """A patch (64, 64) uint8 around `centre` (2,) = x, y of a picture (H, W) uint8, `scale` times as large, from where
    another photo may see it.

    `difficulty` scales all distortions: 0 is the place as it is, 1 the worst that two photos do to it.
    """
    half = patches.SIZE / 2
    angle = np.deg2rad(difficulty * rng.uniform(-25, 25))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # Thickness is measured on the whole animal, so the scale of a place is right to some 15 % only.
    scale *= np.exp(difficulty * rng.uniform(-0.15, 0.15))
    # Seen at an angle, the coat is shortened in one direction, mostly across the body.
    foreshortening = np.diag(1 - difficulty * np.array([0.2, 0.4]) * rng.random(2) ** 2)
    linear = turn @ foreshortening * scale
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    # A patch's grid does not know the place: the nearest patch is off by half a stride at most, SHIFT for any.
    matrix[:2, 2] = half + difficulty * rng.uniform(-SHIFT, SHIFT, 2) - linear @ centre
    perspective = np.eye(3)
    perspective[2, :2] = difficulty * rng.normal(0, 0.0008, 2)
    perspective[2, 2] = 1 - perspective[2, :2].sum() * half  # the centre stays at scale 1
    return cv2.warpPerspective(picture, perspective @ matrix, (patches.SIZE, patches.SIZE))


def view(
    picture: np.ndarray, centre: np.ndarray, scale: float, difficulty: float, rng: np.random.Generator
) -> np.ndarray:
    """A patch (64, 64) bool of a pattern (H, W) uint8 as another photo may show it: `warp`, and `disturb` as often as
    `difficulty` says."""
    seen = warp(picture, centre, scale, difficulty, rng) >= 128
    return disturb(seen, rng) if rng.random() < difficulty else seen


def disturb(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaps, blobs, foreign lines, and now and then a side of the patch that is hidden."""
    picture = patch.astype(np.uint8)
    for value, mean in ((0, 2.0), (1, 0.7)):
        for _ in range(rng.poisson(mean)):
            x, y = (int(v) for v in rng.integers(0, patches.SIZE, 2))
            cv2.circle(picture, (x, y), int(rng.integers(1, 4 if value else 6)), value, -1)
    for _ in range(rng.poisson(0.5)):
        x, y = (int(v) for v in rng.integers(0, patches.SIZE, 2))
        cv2.line(picture, (x, y), (x + int(rng.normal(0, 10)), y + int(rng.normal(0, 10))), 1, 2)
    if rng.random() < 0.25:
        normal = rng.normal(0, 1, 2)
        grid = np.mgrid[: patches.SIZE, : patches.SIZE] - patches.SIZE / 2
        distance = np.tensordot(normal / np.linalg.norm(normal), grid, 1)
        picture[distance > rng.uniform(10, 30)] = 0
    return picture > 0


def relight(patch: np.ndarray, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """A patch (64, 64) float32 in [0, 1] of a grey one, uint8: other light and contrast, blurred, with noise."""
    x: np.ndarray = patch.astype(np.float32) / 255
    x = cv2.GaussianBlur(x, (0, 0), 0.1 + 1.5 * difficulty * rng.random())
    x = x ** np.exp(difficulty * rng.uniform(-0.6, 0.6)) * np.exp(difficulty * rng.uniform(-0.4, 0.4))
    x += rng.normal(0, 0.06 * difficulty * rng.random(), x.shape)
    return x.clip(0, 1).astype(np.float32)


@dataclass(frozen=True)
class DrawnPlaces:
    """Coats and the classes on them: class c is the place `where[c]` = (coat, number of the place)."""

    coats: list[Coat]
    where: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.where)

    def member(self, c: int, turn: int, rng: np.random.Generator, difficulty: float = 1.0) -> np.ndarray:
        """One member of class c: patch (64, 64) bool of its coat, at each turn of the next version; see `view`."""
        coat, place = self.coats[self.where[c][0]], self.where[c][1]
        v = turn % len(coat.versions)
        return view(coat.versions[v], coat.places[place] * coat.scales[v], 1 / OVERSAMPLING, difficulty, rng)


def draw_places(
    seed: Sequence[int], coats: int, models: Sequence[RingModel], versions: int, extraction: extract.PatternConfig
) -> DrawnPlaces:
    """All places of `coats` new coats, the ring models in turn; the same seed gives the same."""
    drawn = [
        draw_coat(np.random.default_rng((*seed, i)), models[i % len(models)], versions, extraction)
        for i in range(coats)
    ]
    return DrawnPlaces(drawn, [(i, j) for i, coat in enumerate(drawn) for j in range(len(coat.places))])
