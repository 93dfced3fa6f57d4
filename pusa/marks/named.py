"""Pairs of marks on one's own animals: photos of different days, of an animal that has a name, show the same.

One map of the key points says which places are the same, as the network recognises them that training starts from
(RootSIFT, where it starts from none); learnt is from all key points that lie on them, few of which were recognised. The
name may be a guess of `pusa catalogue build`: so a network learns an archive in which nobody has named an animal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pusa import records
from pusa.embedding.matched import REACH
from pusa.gallery import geometry
from pusa.gallery.geometry import Features, GeometryConfig
from pusa.marks.network import MarkNetwork
from pusa.marks.places import MarkPairs, marks_of, mutual, paired
from pusa.records import Run

# Inliers of a map, at least. Two different animals have 15 in one pair of a hundred; upright marks know where on a body
# they lie, and have 30 in one of twenty: there the name has to be right; this keeps out what shows nothing.
INLIERS, UPRIGHT_INLIERS = 15, 25
NEAR = 0.02  # longer sides of the crop between a place and a key point, at most


@dataclass(frozen=True)
class Shown:
    """A photo's instance of a named animal: its toned grey picture (H, W) uint8, its key points as marks (n, 4) in px
    of the picture and where they lie in the photo (n, 2), px, and the `features` that maps are sought by."""

    sequence_id: str
    picture: np.ndarray
    marks: np.ndarray
    at: np.ndarray
    features: Features


def shown(sequence_id: str, instance: dict[str, Any], upright: bool, start: str | None) -> Shown:
    """An instance as it is compared by the weights `start`, or by RootSIFT."""
    return Shown(sequence_id, *marks_of(instance, upright), geometry.features(instance, GeometryConfig(marks=start)))


def read(run: Run, names: Mapping[str, str], network: MarkNetwork, start: str | None = None) -> MarkPairs:
    """The pairs of the animals in `names`, by instance_id, as the network is to see them; `start`: weights that maps
    are sought with, null: RootSIFT. Raises UserError where no two photos of one can be held against each other."""
    animals: dict[str, list[Shown]] = defaultdict(list)
    columns = [f"instances.list.element.{name}" for name in ("instance_id", "crop", "crop_box", "mask")]
    for batch in run.batches("photos", ["sequence_id", *columns]):
        for sequence_id, nested in zip(batch["sequence_id"].to_pylist(), records.instances(batch), strict=True):
            for instance in (i for i in nested if i["instance_id"] in names):
                animals[names[instance["instance_id"]]].append(shown(sequence_id, instance, network.upright, start))
    inliers = UPRIGHT_INLIERS if start and network.upright else INLIERS
    return paired(
        animals,
        partial(same, inliers=inliers),
        network.span,
        f"{run.uri} shows no animal that has a name in two sequences so that the same marks are found in both. "
        "Name more encounters, or train with the photos of another archive.",
    )


def same(first: Shown, second: Shown, inliers: int = INLIERS) -> tuple[np.ndarray, np.ndarray]:
    """The key points, i of the first and j of the second (m,), that lie on one place by the map of the two photos; none
    where it has fewer `inliers`."""
    match = geometry.match(first.features, second.features, GeometryConfig())
    if match.inliers < inliers:
        return np.zeros(0, int), np.zeros(0, int)
    there, way = match.carry(first.at)
    apart = np.linalg.norm(there[:, None] - second.at, axis=2) / second.features.side
    apart[way > REACH * first.features.side] = np.inf
    turned = float(np.rad2deg(np.arctan2(match.map[1, 0] - match.map[0, 1], match.map[0, 0] + match.map[1, 1])))
    # Marks are measured in pixels of pictures whose longer side is the same.
    grown = np.sqrt(np.linalg.det(match.map[:, :2])) * first.features.side / second.features.side
    return mutual(np.where(apart < NEAR, apart, np.inf), first.marks, second.marks, turned, grown)
