"""How well embeddings find the same place again: a patch of a coat, and that place in other photos of the animal.

Where on the body a patch lies is known for synthetic archives (truth/surface). This is the test that counts for a patch
network: its patches come out of the extraction, from photos of other days, light and distance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pusa import ranking, records
from pusa.exchange import Given
from pusa.records import Run

NEAR = 0.03  # body lengths between two patches of one place; a stride of 16 px is about 0.04
GIRTH = 0.88  # body lengths, around the body where it is thickest
MIN_FACING = 0.4  # cosine; flatter parts are too foreshortened to be compared


@dataclass(frozen=True)
class Located:
    """An instance with patches that is a true animal: `instance` has the fields asked for, `boxes` (n, 4) are its
    patches in photo pixels, `where` (n, 2) is where they lie on the body."""

    instance: dict[str, Any]
    animal: Given
    sequence_id: str
    boxes: np.ndarray
    where: np.ndarray


def located(run: Run, animals: Mapping[str, Given], surface: Path, fields: Sequence[str]) -> Iterator[Located]:
    """The instances of a run with patches, of the true `animals` by instance_id; surface: folder truth/surface."""
    children = (f"instances.list.element.{name}" for name in ("instance_id", "patch_boxes", *fields))
    for batch in run.batches("photos", ["sequence_id", *children]):
        for sequence_id, nested in zip(batch["sequence_id"].to_pylist(), records.instances(batch), strict=True):
            for instance in nested:
                animal = animals.get(instance["instance_id"])
                if animal is None or animal.identity is None or not instance["patch_boxes"]:
                    continue
                boxes = np.array(instance["patch_boxes"], float).reshape(-1, 4)
                where = places(boxes, surface / f"{animal.id}.png", animal.corner)
                yield Located(instance, animal, sequence_id, boxes, where)


def places(boxes: np.ndarray, surface: Path, corner: tuple[int, int]) -> np.ndarray:
    """Where the middles of patches (n, 4), boxes in photo pixels, lie on the body: (n, 2) float = s, theta, 0..1.

    NaN where the truth shows no animal, a flipper, or a part seen too flatly. surface, corner: an annotation's map
    (`pusa.synthetic.photo`, halved) and the x, y of its upper left pixel.
    """
    values = np.asarray(Image.open(surface), float) / 255
    middle = np.floor(((boxes[:, :2] + boxes[:, 2:]) / 2 - corner) / 2).astype(int)
    inside = ((middle >= 0) & (middle < (values.shape[1], values.shape[0]))).all(axis=1)
    found = np.full((len(boxes), 3), np.nan)
    found[inside] = values[middle[inside, 1], middle[inside, 0]]
    return np.where(found[:, 2:] >= MIN_FACING, found[:, :2], np.nan)


@dataclass(frozen=True)
class Retrieval:
    """Of each query its average precision, whether its nearest patch is right, and the share of right patches; (q,)."""

    precision: np.ndarray
    first: np.ndarray
    chance: np.ndarray

    def means(self) -> dict[str, float]:
        if not len(self.precision):
            return {"queries": 0}
        return {
            "queries": len(self.precision),
            "recall@1": float(self.first.mean()),
            "map": float(self.precision.mean()),
            "chance": float(self.chance.mean()),
        }


def retrieval(
    embeddings: np.ndarray,
    where: np.ndarray,
    animal: np.ndarray,
    sequence: np.ndarray,
    rng: np.random.Generator,
    queries: int = 1000,
) -> Retrieval:
    """How well patches find their place in photos of other sequences.

    embeddings: (n, d), rows of length 1; where: (n, 2) as `places` gives it; animal, sequence: (n,) labels. Up to
    `queries` patches, drawn by chance, are compared with all patches of other sequences. Right ones show the same
    animal within NEAR. Queries without a right patch are left out. Ties count against.
    """
    known = np.isfinite(where).all(axis=1)
    embeddings, where, animal, sequence = embeddings[known], where[known], animal[known], sequence[known]
    precision: list[float] = []
    first: list[bool] = []
    chance: list[float] = []
    for i in rng.permutation(len(where)):
        if len(precision) == queries:
            break
        others = sequence != sequence[i]
        turn = np.abs(where[others, 1] - where[i, 1])
        apart = np.hypot(where[others, 0] - where[i, 0], GIRTH * np.minimum(turn, 1 - turn))
        right = (animal[others] == animal[i]) & (apart <= NEAR)
        if right.any():
            distance = 1 - embeddings[others].astype(np.float32) @ embeddings[i].astype(np.float32)
            precision.append(float(ranking.average_precision(distance[None], right[None])[0]))
            first.append(bool(distance[right].min() < distance[~right].min(initial=np.inf)))
            chance.append(float(right.mean()))
    return Retrieval(np.array(precision), np.array(first, bool), np.array(chance))
