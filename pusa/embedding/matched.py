"""Places on one's own animals: where two photos of different days, of an animal that somebody has named, show the same.

No truth says where on the body a patch lies, but two photos whose key points one map carries over each other say which
places are the same: the places of `seen`, learnt from a catalogue. The key points are those of the grey picture, behind
which no training stands, so a network does not learn from its own answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from pusa import photos as photo_files
from pusa import records
from pusa.embedding.seen import SeenPlaces, enlarged_size, in_picture, white
from pusa.errors import UserError
from pusa.gallery import geometry
from pusa.gallery.geometry import SIFT, Features
from pusa.pattern import patches
from pusa.records import Run

INLIERS = 15  # of a map, at least: twice what chance gives two different animals
REACH = 0.1  # longer sides of the crop, from a place to the nearest inlier: farther away a map says nothing
LINES = 0.04  # share of white pixels of a patch, at least: what was not extracted cannot be learnt
PAIRS = 100  # of photos of one animal, at most


@dataclass(frozen=True)
class Shown:
    """A photo's instance of a named animal: its key points, its pattern (H, W) uint8 with lines OVERSAMPLING x the
    normal thickness, and the middles (n, 2) of its patches, in px of the photo."""

    sequence_id: str
    features: Features
    picture: np.ndarray
    crop_box: tuple[int, ...]
    middles: np.ndarray

    @classmethod
    def of(cls, sequence_id: str, instance: dict[str, Any]) -> Shown:
        boxes = np.array(instance["patch_boxes"], float).reshape(-1, 4)
        size = enlarged_size(boxes, instance["crop_box"])
        picture = patches.resize(photo_files.decode_mask_png(instance["pattern"]), size).astype(np.uint8) * 255
        found = geometry.features(instance, SIFT)
        return cls(sequence_id, found, picture, tuple(instance["crop_box"]), (boxes[:, :2] + boxes[:, 2:]) / 2)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) of the photo in pixels of the picture."""
        return in_picture(points, self.picture.shape[::-1], self.crop_box)

    def clear(self, points: np.ndarray) -> np.ndarray:
        """(n,) bool: around which points of the photo the picture shows lines."""
        return white(self.picture > 0, self.pixels(points)) >= LINES


def read(run: Run, names: Mapping[str, str]) -> SeenPlaces:
    """The places that photos of different sequences show of the animals in `names`, by instance_id.

    Raises UserError where no two photos of one animal can be held against each other.
    """
    animals: dict[str, list[Shown]] = defaultdict(list)
    for sequence_id, instance in _instances(run):
        if instance["instance_id"] in names and instance["pattern"] is not None and instance["patch_boxes"]:
            animals[names[instance["instance_id"]]].append(Shown.of(sequence_id, instance))
    pictures: list[np.ndarray] = []
    members: list[list[np.ndarray]] = []
    for _, shown in sorted(animals.items()):
        members += _places(shown, len(pictures))
        pictures += [s.picture for s in shown]
    if not members:
        raise UserError(
            f"{run.uri} shows no animal that has a name in two sequences so that the same marks are found in both. "
            "Name more encounters, or train with the photos of another archive."
        )
    return SeenPlaces(pictures, members)


def _instances(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    fields = ("instance_id", "crop", "crop_box", "mask", "pattern", "patch_boxes")
    columns = ["sequence_id", *(f"instances.list.element.{name}" for name in fields)]
    for batch in run.batches("photos", columns):
        for sequence_id, nested in zip(batch["sequence_id"].to_pylist(), records.instances(batch), strict=True):
            yield from ((sequence_id, instance) for instance in nested)


def _places(shown: list[Shown], number: int) -> list[list[np.ndarray]]:
    """The places of one animal's photos, whose pictures are numbered from `number`: see `SeenPlaces.members`."""
    pairs = [(a, b) for a, b in combinations(range(len(shown)), 2) if shown[a].sequence_id != shown[b].sequence_id]
    found: dict[tuple[int, int], dict[str, list[tuple[float, float, float]]]] = {}
    for a, b in np.random.default_rng(0).permutation(np.array(pairs, int).reshape(-1, 2))[:PAIRS].tolist():
        first, second = shown[a], shown[b]
        there = carried(first, second)
        for k in np.flatnonzero(np.isfinite(there[:, 0])):
            place = found.setdefault((a, int(k)), {})
            for which, point in ((a, first.middles[k]), (b, there[k])):
                x, y = shown[which].pixels(point)
                entry = (float(number + which), float(x), float(y))
                of_sequence = place.setdefault(shown[which].sequence_id, [])
                if entry not in of_sequence:
                    of_sequence.append(entry)
    return [[np.array(m) for m in place.values()] for place in found.values()]


def carried(first: Shown, second: Shown) -> np.ndarray:
    """Where the middles of the first one's patches lie in the second photo, (n, 2); NaN where that is not known."""
    there = np.full(first.middles.shape, np.nan)
    match = geometry.match(first.features, second.features, SIFT)
    if match.inliers < INLIERS:
        return there
    point, way = match.carry(first.middles)
    known = way <= REACH * first.features.side
    known[known] &= first.clear(first.middles[known]) & second.clear(point[known])
    there[known] = point[known]
    return there
