"""Geometry of two pictures: do two animals show the same in the same arrangement?

Two kinds of points are compared: `marks`, key points inside the mask (SIFT's, Lowe 2004), described by a network or,
with no training behind it, as RootSIFT (Arandjelovic 2012); and `patches` of the pattern by their embeddings. Pairs
that are each other's nearest are sought, and the affine map that most of them agree with (RANSAC, Fischler 1981): a
flank is nearly flat, and seen from another side it is mapped by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch

from pusa import photos, weights
from pusa.keypoints import KeypointConfig, body_angle, detector, strongest, toned
from pusa.marks import describe
from pusa.segmentation.masks import crop_mask

LENGTH = 128  # numbers in a descriptor of a key point, SIFT's or the network's

Kind = Literal["marks", "patches"]
KINDS: tuple[Kind, ...] = ("marks", "patches")


class GeometryConfig(KeypointConfig):
    """Settings of key points and their maps."""

    tolerance: float = 0.04  # share of the longer side by which an inlier may be off: bodies are not flat
    stretch: float = 3.0  # of the map in any direction, at most, and its inverse at least


SIFT = GeometryConfig(marks=None)  # key points as RootSIFT describes them, whatever was learnt


@dataclass(frozen=True)
class Points:
    """Points of a crop: `at` (n, 2) float32 = x, y in px of the original photo, and `descriptors` (n, d): of marks
    SIFT's own, uint8, or a network's, int8; of patches a codebook's projections of embeddings, float16."""

    at: np.ndarray
    descriptors: np.ndarray


NO_MARKS = Points(np.zeros((0, 2), np.float32), np.zeros((0, LENGTH), np.uint8))
NO_PATCHES = Points(np.zeros((0, 2), np.float32), np.zeros((0, 0), np.float16))


@dataclass(frozen=True)
class Features:
    """What is compared of a crop: its points of both kinds; `side`: longer side of the crop box, px; `corner`: its x0,
    y0; `picture`: the crop, a small JPEG."""

    marks: Points
    side: float
    corner: tuple[float, float] = (0.0, 0.0)
    picture: bytes = b""
    patches: Points = NO_PATCHES

    def points(self, kind: Kind) -> Points:
        return self.marks if kind == "marks" else self.patches


@dataclass(frozen=True)
class Match:
    """Pairs of points (m, 2) and (m, 2) of two crops that one affine map (2, 3) carries over; none: empty, identity.

    `places` (m,): which points of the first crop these are, and `similarity` (m,): cosines of their descriptors.
    `pairs`: how many points were each other's nearest, m at least.
    """

    first: np.ndarray
    second: np.ndarray
    map: np.ndarray
    places: np.ndarray
    similarity: np.ndarray
    pairs: int

    @property
    def inliers(self) -> int:
        return len(self.first)

    def carry(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where points (n, 2) of the first photo lie in the second, (n, 2), and how far off the nearest inlier is (n,).

        That inlier goes with a point, and the map says only how the way between them turns: a body is not flat.
        """
        way = points[:, None] - self.first
        nearest = np.linalg.norm(way, axis=2).argmin(axis=1)
        way = way[np.arange(len(way)), nearest]
        return self.second[nearest] + way @ self.map[:, :2].T, np.linalg.norm(way, axis=1)


NOWHERE = np.zeros((0, 2), np.float32)
NO_MATCH = Match(NOWHERE, NOWHERE, np.eye(2, 3), np.zeros(0, int), np.zeros(0, np.float32), 0)


def unit(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors (n, d) as float32 rows of length 1, or of zeros. SIFT's become RootSIFT: roots of shares of a sum."""
    d = descriptors.astype(np.float32)
    if descriptors.dtype == np.uint8:
        return np.sqrt(d / np.maximum(d.sum(axis=1, keepdims=True), 1e-9))
    return d / np.maximum(np.linalg.norm(d, axis=1, keepdims=True), 1e-9)


def as_found(manifest: Mapping[str, Any], config: KeypointConfig) -> bool:
    """Whether the instances of a run have the key points that `config` asks for, by the run's manifest."""
    used = manifest["config"].get("keypoints")
    if used is None:  # of an older version
        return False
    asked = config.model_dump(include=set(KeypointConfig.model_fields))
    digest = config.marks and weights.digest(weights.find(config.marks))
    # A file is what is in it, wherever it lies.
    return used | {"marks": None} == asked | {"marks": None} and manifest["weights"].get("marks") == digest


def stored(instance: dict[str, Any], config: KeypointConfig, patches: Points = NO_PATCHES) -> Features:
    """An instance's key points as its run found them (keypoints, marks, picture: see `as_found`), and its `patches`."""
    x0, y0, x1, y1 = (float(v) for v in instance["crop_box"])
    kind = np.uint8 if config.marks is None else np.int8
    marks = Points(instance["keypoints"].reshape(-1, 2), np.frombuffer(instance["marks"], kind).reshape(-1, LENGTH))
    return Features(marks, max(x1 - x0, y1 - y0), (x0, y0), instance["picture"], patches)


def features(instance: dict[str, Any], config: KeypointConfig, patches: Points = NO_PATCHES) -> Features:
    """Key points of an instance (crop, crop_box, mask; without a mask those of the whole crop), and its `patches`."""
    x0, y0, x1, y1 = (float(v) for v in instance["crop_box"])
    crop = photos.decode_jpeg(instance["crop"])
    describer = None if config.marks is None else describe.describer(config.marks)
    upright = describer is not None and describer.upright
    grey, found = prepared(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), instance, config, upright)
    size = grey.shape[::-1]
    shrink = cv2.INTER_AREA if max(crop.shape) > config.side else cv2.INTER_LINEAR
    picture = photos.encode_jpeg(cv2.resize(crop, size, interpolation=shrink), 80)
    side = max(x1 - x0, y1 - y0)
    if not found:
        return Features(NO_MARKS, side, (x0, y0), picture, patches)
    if describer is None:
        found, descriptors = detector(config.contrast).compute(grey, found)
        descriptors = descriptors.astype(np.uint8)
    else:
        descriptors = describer.of_picture(grey, found)
    at = in_photo(np.array([k.pt for k in found], np.float32), grey, instance["crop_box"])
    return Features(Points(at, descriptors), side, (x0, y0), picture, patches)


def in_photo(points: np.ndarray, picture: np.ndarray, crop_box: Sequence[float]) -> np.ndarray:
    """Points (n, 2) of a scaled crop (H, W), px, as float32 px of the photo that `crop_box` was cut from."""
    x0, y0, x1, y1 = (float(v) for v in crop_box)
    return (points * (max(x1 - x0, y1 - y0) / max(picture.shape)) + (x0, y0)).astype(np.float32)


def prepared(
    grey: np.ndarray, instance: dict[str, Any], config: KeypointConfig, upright: bool = False
) -> tuple[np.ndarray, Sequence[cv2.KeyPoint]]:
    """A crop (H, W) uint8 scaled and tone-mapped, and its strongest key points inside the instance's mask; `upright`:
    their angle is that of the mask's longer axis, without a mask the photo's own (0)."""
    factor = config.side / max(grey.shape)
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    grey = toned(grey, config.clahe)
    inside = None if instance["mask"] is None else crop_mask(instance["mask"], instance["crop_box"], size)
    angle = None if not upright else 0.0 if inside is None else body_angle(inside)
    return grey, strongest(grey, inside, config.keypoints, config.contrast, config.margin, angle)


def match(first: Features, second: Features, config: GeometryConfig, kind: Kind = "marks") -> Match:
    """The largest set of pairs of points of a `kind`, each other's nearest, that one affine map carries from the first
    crop to the second.

    The map keeps the handedness and stretches by at most `stretch`: other ones are chance. The same features give the
    same match.
    """
    mine, theirs = first.points(kind), second.points(kind)
    if min(len(mine.at), len(theirs.at)) < 4:
        return NO_MATCH
    # In torch, as the search for neighbours before: NumPy's threads and torch's would wait for one another.
    similarity = torch.from_numpy(unit(mine.descriptors)) @ torch.from_numpy(unit(theirs.descriptors)).T
    nearest, there = (found.numpy() for found in similarity.max(dim=1))
    pairs = np.flatnonzero(similarity.amax(dim=0).numpy()[there] == nearest)
    a, b = mine.at[pairs], theirs.at[there[pairs]]
    if len(a) < 4:
        return NO_MATCH
    cv2.setRNGSeed(0)
    tolerance = config.tolerance * second.side
    found, inside = cv2.estimateAffine2D(a, b, method=cv2.RANSAC, ransacReprojThreshold=tolerance, maxIters=500)
    if found is None:
        return NO_MATCH
    stretch = np.linalg.svd(found[:, :2] * first.side / second.side, compute_uv=False)
    if np.linalg.det(found[:, :2]) <= 0 or stretch[0] > config.stretch or stretch[1] < 1 / config.stretch:
        return NO_MATCH
    kept = inside[:, 0] > 0
    return Match(a[kept], b[kept], found, pairs[kept], nearest[pairs[kept]], len(pairs))


def draw(first: Features, second: Features, found: Match) -> np.ndarray:
    """The two crops side by side, (H, W, 3) uint8 RGB, with a line for each pair of `found`."""
    crops = [photos.decode_jpeg(f.picture) for f in (first, second)]
    height, gap = max(c.shape[0] for c in crops), 12
    canvas = np.full((height, crops[0].shape[1] + gap + crops[1].shape[1], 3), 245, np.uint8)
    starts = ((0, (height - crops[0].shape[0]) // 2), (crops[0].shape[1] + gap, (height - crops[1].shape[0]) // 2))
    ends = []
    for crop, start, f, points in zip(crops, starts, (first, second), (found.first, found.second), strict=True):
        canvas[start[1] : start[1] + crop.shape[0], start[0] : start[0] + crop.shape[1]] = crop
        ends.append((points - f.corner) * (max(crop.shape[:2]) / f.side) + start)
    for k, (a, b) in enumerate(zip(*(np.rint(16 * e).astype(int) for e in ends), strict=True)):
        hue = np.array([[[180 * k // max(found.inliers, 1), 200, 255]]], np.uint8)
        colour = tuple(int(v) for v in cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0])
        cv2.line(canvas, a.tolist(), b.tolist(), colour, 1, cv2.LINE_AA, shift=4)
        for end in (a, b):
            cv2.circle(canvas, end.tolist(), 3 * 16, colour, 1, cv2.LINE_AA, shift=4)
    return canvas
