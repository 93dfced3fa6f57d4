"""Pairs of marks to learn from: key points of two photos of different days that lie on the same place of an animal.

What the network is to overlook - another light, distance and pose - is between the two as it is. Where a key point lies
on the body is known for synthetic archives (truth/surface).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pusa import photos as photo_files
from pusa import records, truth
from pusa.embedding import evaluate
from pusa.errors import UserError
from pusa.gallery.geometry import in_photo, prepared
from pusa.keypoints import KeypointConfig
from pusa.marks import describe
from pusa.marks.network import MarkNetwork
from pusa.records import Run

NEAR = 0.012  # body lengths between two key points of one place, at most
SCALE = 0.5  # logarithm of the ratio of their sizes, in shares of the crop's, at most
TURN = 35.0  # degrees by which their angles, against the body's, may differ
PAIRS = 60  # of photos of one animal, at most
Same = Callable[[Any, Any], tuple[np.ndarray, np.ndarray]]
JITTER = (0.1, 0.1, 0.1, 8.0)  # in training: deviations of place (sizes of the mark), of log size, and of angle


@dataclass(frozen=True)
class Shown:
    """A photo's instance: its toned grey picture (H, W) uint8, its key points as marks (n, 4), where these lie on the
    body (n, 2), NaN where that is not known, and the angle of the body in the picture, degrees."""

    sequence_id: str
    picture: np.ndarray
    marks: np.ndarray
    where: np.ndarray
    angle: float


@dataclass(frozen=True)
class MarkPairs:
    """Grey pictures by their levels, and pairs (m, 2, 5) float32 of marks in them: number of the picture, x, y, size,
    angle; `span`: sizes of a mark that its surroundings measure. A source of classes: each pair is one."""

    pictures: list[list[np.ndarray]]
    pairs: np.ndarray
    span: float

    def __len__(self) -> int:
        return len(self.pairs)

    def member(self, c: int, turn: int, rng: np.random.Generator, difficulty: float = 1.0) -> np.ndarray:
        """Surroundings (32, 32) uint8 of one of the two, in turns; moved, turned and scaled a little by chance, as a
        key point is never found exactly again; `difficulty` 0 as found."""
        number, x, y, size, angle = self.pairs[c, turn % 2]
        right, down, grown, turned = rng.normal(0, JITTER) * difficulty
        mark = np.array([[x + right * size, y + down * size, size * np.exp(grown), angle + turned]])
        return describe.cut(self.pictures[int(number)], mark, self.span)[0]


def read(run: Run, archive: Path, network: MarkNetwork) -> MarkPairs:
    """The pairs of a run of a synthetic archive as the network is to see them. Raises UserError where there is none."""
    animals: dict[str, list[Shown]] = defaultdict(list)
    for name, shown in _shown(run, archive, network.upright):
        animals[name].append(shown)
    nothing = f"{run.uri} shows no key point of an animal of {archive} in two sequences."
    return paired(animals, same, network.span, nothing)


def paired(animals: Mapping[str, Sequence[Any]], same: Same, span: float, nothing: str) -> MarkPairs:
    """The pairs that `same` finds in PAIRS pairs of photos of each animal. Raises UserError(`nothing`) without one."""
    pictures: list[list[np.ndarray]] = []
    pairs: list[np.ndarray] = [np.zeros((0, 2, 5), np.float32)]
    rng = np.random.default_rng(0)
    for _, mine in sorted(animals.items()):
        several = [(a, b) for a, b in combinations(range(len(mine)), 2) if mine[a].sequence_id != mine[b].sequence_id]
        for a, b in rng.permutation(np.array(several, int).reshape(-1, 2))[:PAIRS].tolist():
            i, j = same(mine[a], mine[b])
            ends = [
                np.column_stack([np.full(len(k), len(pictures) + n), mine[n].marks[k]]) for n, k in ((a, i), (b, j))
            ]
            pairs.append(np.stack(ends, 1).astype(np.float32))
        pictures += [describe.levels(shown.picture) for shown in mine]
    found = np.concatenate(pairs)
    if not len(found):
        raise UserError(nothing)
    return MarkPairs(pictures, found, span)


def marks_of(instance: dict[str, Any], upright: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The toned grey picture (H, W) uint8 of an instance, its key points as marks (n, 4) in px of the picture, and
    where they lie in the photo (n, 2), px."""
    crop = photo_files.decode_jpeg(instance["crop"])
    picture, points = prepared(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), instance, KeypointConfig(), upright)
    marks = describe.of_keypoints(points)
    return picture, marks, in_photo(marks[:, :2], picture, instance["crop_box"])


def _shown(run: Run, archive: Path, upright: bool) -> Iterator[tuple[str, Shown]]:
    folder = Path(archive) / "truth"
    known = truth.true_animals(run, str(folder / "instances.json"))
    if not (folder / "surface").is_dir():
        raise UserError(f"{archive} has no truth/surface: `pusa synth` writes where on the body each pixel lies.")
    columns = [f"instances.list.element.{name}" for name in ("instance_id", "crop", "crop_box", "mask")]
    for batch in run.batches("photos", ["sequence_id", *columns]):
        for sequence_id, nested in zip(batch["sequence_id"].to_pylist(), records.instances(batch), strict=True):
            for instance in nested:
                animal = known.get(instance["instance_id"])
                if animal is None or animal.identity is None:
                    continue
                picture, marks, at = marks_of(instance, upright)
                file = folder / "surface" / f"{animal.id}.png"
                where = evaluate.places(np.hstack([at, at]).astype(float), file, animal.corner)
                yield str(animal.identity), Shown(sequence_id, picture, marks, where, body_angle(marks, where))


def body_angle(marks: np.ndarray, where: np.ndarray) -> float:
    """Direction, degrees, in which the body goes on in the picture: that of the plane through `where` along it."""
    known = np.isfinite(where[:, 0])
    if known.sum() < 3:
        return float("nan")
    at = np.column_stack([marks[known, :2], np.ones(known.sum())])
    (along_x, along_y, _), *_ = np.linalg.lstsq(at, where[known, 0], rcond=None)
    return float(np.rad2deg(np.arctan2(along_y, along_x)))


def same(first: Shown, second: Shown) -> tuple[np.ndarray, np.ndarray]:
    """The key points, i of the first and j of the second (m,), that are each other's nearest on the body, near enough,
    of like size and angle."""
    around = np.abs(first.where[:, None, 1] - second.where[None, :, 1])
    along = first.where[:, None, 0] - second.where[None, :, 0]
    apart = np.hypot(along, evaluate.GIRTH * np.minimum(around, 1 - around))
    return mutual(np.where(apart < NEAR, apart, np.inf), first.marks, second.marks, second.angle - first.angle)


def mutual(
    apart: np.ndarray, first: np.ndarray, second: np.ndarray, turned: float, grown: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The marks i and j (m,) that are each other's nearest, of those of like size and angle.

    apart (n, k): between marks (n, 4) and (k, 4), NaN or inf where they cannot be the same; `turned` degrees and
    `grown` times is what the second picture is against the first.
    """
    sizes = np.abs(np.log(first[:, None, 2] * grown / second[None, :, 2]))
    angles = second[None, :, 3] - first[:, None, 3] - turned
    fits = np.isfinite(apart) & (sizes < SCALE) & (np.abs((angles + 180) % 360 - 180) < TURN)
    if not fits.any():
        return np.zeros(0, int), np.zeros(0, int)
    apart = np.where(fits, apart, np.inf)
    j = apart.argmin(1)
    i = np.flatnonzero(fits[np.arange(len(j)), j] & (apart.argmin(0)[j] == np.arange(len(j))))
    return i, j[i]
