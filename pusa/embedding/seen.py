"""Places on animals as photos show them: patches that were extracted, paired by where on the body they lie.

What makes two patches of one place differ - another light, distance and pose, and all that the extraction misses or
makes up - is in them as it is. Where a patch lies is known for synthetic archives (truth/surface).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pusa import photos as photo_files
from pusa import truth
from pusa.embedding import evaluate
from pusa.embedding.coats import OVERSAMPLING, view
from pusa.embedding.embed import patches_of
from pusa.embedding.evaluate import Located
from pusa.errors import UserError
from pusa.pattern import patches
from pusa.records import Run

STEP = 0.05  # body lengths between the middles of two places
RADIUS = 0.02  # of a place: members are less apart than evaluate.NEAR, mostly, and those of two places do not touch
AROUND = round(evaluate.GIRTH / STEP)  # places around the body
DISTORTION = 0.4  # of what `coats.view` does to a place: most of it has happened already


@dataclass(frozen=True)
class SeenPlaces:
    """Patterns (H, W) uint8 with lines OVERSAMPLING x the normal thickness, and of each class its members by sequence,
    each (n, 3): number of the pattern, x and y of the middle in its pixels."""

    patterns: list[np.ndarray]
    members: list[list[np.ndarray]]

    def __len__(self) -> int:
        return len(self.members)

    def member(self, c: int, turn: int, rng: np.random.Generator, difficulty: float = 1.0) -> np.ndarray:
        """One member of class c, at each turn of the next sequence: patch (64, 64) bool; `difficulty` 0 as found."""
        number, x, y = rng.choice(self.members[c][turn % len(self.members[c])])
        return view(self.patterns[int(number)], np.array([x, y]), 1 / OVERSAMPLING, DISTORTION * difficulty, rng)


def read(run: Run, archive: Path) -> SeenPlaces:
    """The places of a run of a synthetic archive that two sequences show. Raises UserError where there is none.

    Two photos of one sequence are too alike: what is learnt from them does not carry over to another day.
    """
    patterns: list[np.ndarray] = []
    members: dict[tuple[str, int, int], dict[str, list[tuple[int, float, float]]]] = defaultdict(dict)
    for found in _located(run, archive):
        picture, middles = _enlarged(found)
        for (s, theta), (x, y) in zip(found.where, middles, strict=True):
            if (cell := cell_of(s, theta)) is not None:
                of_place = members[found.identity, *cell]
                of_place.setdefault(found.sequence_id, []).append((len(patterns), x, y))
        patterns.append(picture)
    several = [[np.array(m) for m in of_place.values()] for of_place in members.values() if len(of_place) > 1]
    if not several:
        raise UserError(f"{run.uri} shows no place of an animal of {archive} in two sequences.")
    return SeenPlaces(patterns, several)


def _located(run: Run, archive: Path) -> Iterator[Located]:
    folder = Path(archive) / "truth"
    animals = truth.true_animals(run, str(folder / "instances.json"))
    if not (folder / "surface").is_dir():
        raise UserError(f"{archive} has no truth/surface: `pusa synth` writes where on the body each pixel lies.")
    return evaluate.located(run, animals, folder / "surface", ("crop_box", "pattern"))


@dataclass(frozen=True)
class SeenPatches:
    """Patches (n, 64, 64) bool as they were extracted, where they lie (n, 2), and whose they are (n,), in which
    sequence (n,): what `evaluate.retrieval` needs."""

    patches: np.ndarray
    where: np.ndarray
    animal: np.ndarray
    sequence: np.ndarray


def sample(run: Run, archive: Path, limit: int, rng: np.random.Generator) -> SeenPatches:
    """At most `limit` patches of a run, by chance."""
    found = list(_located(run, archive))
    count = [len(f.where) for f in found]
    keep = rng.permutation(sum(count))[:limit]
    return SeenPatches(
        np.concatenate([patches_of(f.instance) for f in found])[keep],
        np.concatenate([f.where for f in found])[keep],
        np.repeat([f.identity for f in found], count)[keep],
        np.repeat([f.sequence_id for f in found], count)[keep],
    )


def cell_of(s: float, theta: float) -> tuple[int, int] | None:
    """The place (along, around the body) that a point s, theta (0..1) belongs to; None between places, and for NaN."""
    if not np.isfinite(s):
        return None
    along, around = int(s / STEP), int(theta * AROUND)
    apart = np.hypot(s - (along + 0.5) * STEP, evaluate.GIRTH * (theta - (around + 0.5) / AROUND))
    return (along, around) if apart <= RADIUS else None


def _enlarged(found: Located) -> tuple[np.ndarray, np.ndarray]:
    """The stored pattern, (H, W) uint8, where a patch has 64 x OVERSAMPLING px, and the middles (n, 2) of patches."""
    x0, y0, x1, y1 = (float(v) for v in found.instance["crop_box"])
    _, size = patches.from_photo(found.boxes, found.instance["crop_box"])
    width, height = (max(1, round(length * OVERSAMPLING)) for length in size)
    pattern = patches.resize(photo_files.decode_mask_png(found.instance["pattern"]), (width, height))
    middles = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2 - (x0, y0)
    middles *= (width / (x1 - x0), height / (y1 - y0))
    return cv2.GaussianBlur(pattern.astype(np.uint8) * 255, (0, 0), 0.7), middles
