"""Places on animals as photos show them: patches that were extracted, paired by where on the body they lie.

What makes two patches of one place differ - another light, distance and pose, and all that the extraction misses or
makes up - is in them as it is. Where a patch lies is known for synthetic archives (truth/surface).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pusa import photos as photo_files
from pusa import truth
from pusa.embedding import evaluate
from pusa.embedding.coats import OVERSAMPLING, relight, view, warp
from pusa.embedding.embed import patches_of
from pusa.embedding.evaluate import Located
from pusa.errors import UserError
from pusa.pattern import evaluate as pattern_lines
from pusa.pattern import extract, grey, patches
from pusa.records import Run

STEP = 0.05  # body lengths between the middles of two places
RADIUS = 0.02  # of a place: members are less apart than evaluate.NEAR, mostly, and those of two places do not touch
AROUND = round(evaluate.GIRTH / STEP)  # places around the body
AGREEMENT = 0.8  # F1 of lines, of an extracted patch with the true rings
THICKNESS = 4.0  # px, of lines in a patch
DISTORTION = 0.4  # of what `coats.view` does to a place: most of it has happened already


@dataclass(frozen=True)
class SeenPlaces:
    """Patterns (H, W) uint8 with lines OVERSAMPLING x the normal thickness, or grey pictures of that size, and of each
    class its members by sequence, each (n, 3): number of the pattern, x and y of the middle in its pixels."""

    patterns: list[np.ndarray]
    members: list[list[np.ndarray]]
    grey: bool = False

    def __len__(self) -> int:
        return len(self.members)

    def member(self, c: int, turn: int, rng: np.random.Generator, difficulty: float = 1.0) -> np.ndarray:
        """One member of class c, at each turn of the next sequence: patch (64, 64), bool, or grey float32 in [0, 1];
        `difficulty` 0 as found."""
        number, x, y = rng.choice(self.members[c][turn % len(self.members[c])])
        picture, middle, distortion = self.patterns[int(number)], np.array([x, y]), DISTORTION * difficulty
        if self.grey:
            return relight(warp(picture, middle, 1 / OVERSAMPLING, distortion, rng), difficulty, rng)
        return view(picture, middle, 1 / OVERSAMPLING, distortion, rng)


def read(run: Run, archive: Path) -> SeenPlaces:
    """The places of a run of a synthetic archive that two sequences show. Raises UserError where there is none.

    Two photos of one sequence are too alike: what is learnt from them does not carry over to another day. Members are
    the true rings in each photo, and what was extracted of them, where it is right: what is not cannot be learnt, but
    keeps a network from learning.
    """
    patterns: list[np.ndarray] = []
    members: dict[tuple[str, int, int], dict[str, list[tuple[int, float, float]]]] = defaultdict(dict)
    is_grey = False
    for found in _located(run, archive):
        size = enlarged_size(found.boxes, found.instance["crop_box"])
        middles = in_picture((found.boxes[:, :2] + found.boxes[:, 2:]) / 2, size, found.instance["crop_box"])
        is_grey = found.instance["pattern"] is None  # of all patches in a run, or of none
        pictures, shown = _greys(found, size) if is_grey else _lines(found, archive, size, middles)
        for (s, theta), (x, y), numbers in zip(found.where, middles, shown, strict=True):
            if (cell := cell_of(s, theta)) is not None:
                of_place = members[str(found.animal.identity), *cell].setdefault(found.sequence_id, [])
                of_place += [(len(patterns) + k, x, y) for k in numbers]
        patterns += pictures
    several = [[np.array(m) for m in of_place.values()] for of_place in members.values() if len(of_place) > 1]
    if not several:
        raise UserError(f"{run.uri} shows no place of an animal of {archive} in two sequences.")
    return SeenPlaces(patterns, several, is_grey)


def _greys(found: Located, size: tuple[int, int]) -> tuple[list[np.ndarray], list[tuple[int, ...]]]:
    """The grey crop of an instance as a picture (H, W) uint8 of `size` (width, height), which shows all its patches."""
    return [grey.picture(found.instance, size)], [(0,)] * len(found.boxes)


def _lines(
    found: Located, archive: Path, size: tuple[int, int], middles: np.ndarray
) -> tuple[list[np.ndarray], list[tuple[int, ...]]]:
    """The true rings and the extracted ones of an instance as pictures (H, W) uint8 of `size` (width, height), and
    which of the two show the patches around `middles` (n, 2) rightly."""
    file = Path(archive) / "truth" / "rings" / f"{found.animal.id}.png"
    true = patches.resize(pattern_lines.true_rings(found.instance["crop_box"], file, found.animal.corner), size)
    extracted = patches.resize(photo_files.decode_mask_png(found.instance["pattern"]), size)
    right = agreement(extracted, true, middles) >= AGREEMENT
    pictures = [cv2.GaussianBlur(p.astype(np.uint8) * 255, (0, 0), 0.7) for p in (thickened(true), extracted)]
    return pictures, [(0, 1) if r else (0,) for r in right]


def _located(run: Run, archive: Path) -> Iterator[Located]:
    folder = Path(archive) / "truth"
    animals = truth.true_animals(run, str(folder / "instances.json"))
    if not (folder / "surface").is_dir():
        raise UserError(f"{archive} has no truth/surface: `pusa synth` writes where on the body each pixel lies.")
    return evaluate.located(run, animals, folder / "surface", ("crop_box", "pattern", "crop", "mask"))


@dataclass(frozen=True)
class SeenPatches:
    """Patches (n, 64, 64) as the run has them, bool, or grey float32; where they lie (n, 2), whose they are (n,), in
    which sequence (n,): what `evaluate.retrieval` needs."""

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
        np.repeat([str(f.animal.identity) for f in found], count)[keep],
        np.repeat([f.sequence_id for f in found], count)[keep],
    )


def cell_of(s: float, theta: float) -> tuple[int, int] | None:
    """The place (along, around the body) that a point s, theta (0..1) belongs to; None between places, and for NaN."""
    if not np.isfinite(s):
        return None
    along, around = int(s / STEP), int(theta * AROUND)
    apart = np.hypot(s - (along + 0.5) * STEP, evaluate.GIRTH * (theta - (around + 0.5) / AROUND))
    return (along, around) if apart <= RADIUS else None


def thickened(true: np.ndarray) -> np.ndarray:
    """True rings (H, W) bool with lines as thick as extracted ones are at this scale."""
    more = round(THICKNESS * OVERSAMPLING - extract.thickness(true)) if true.any() else 0
    return cv2.dilate(true.astype(np.uint8), np.ones((more + 1, more + 1), np.uint8)) > 0 if more > 0 else true


def agreement(found: np.ndarray, true: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """F1 of lines (n,) within each patch around `middles` (n, 2), of two patterns (H, W) bool with lines of 6 px."""
    tolerance = pattern_lines.TOLERANCE * OVERSAMPLING

    def share_near(lines: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Of the pixels of `lines` in each patch the share that lies near `others`."""
        distance = cv2.distanceTransform((~others).astype(np.uint8), cv2.DIST_L2, 3) if others.any() else np.inf
        hits = _sums(lines & (distance <= tolerance), middles)
        return hits / np.maximum(_sums(lines, middles), 1)

    precision, recall = share_near(found, true), share_near(true, found)
    return 2 * precision * recall / np.maximum(precision + recall, 1e-9)


def _sums(mask: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """White pixels (n,) of a mask in each patch."""
    half = patches.SIZE * OVERSAMPLING / 2
    total = cv2.integral(mask.astype(np.uint8))
    x0, y0 = np.rint(middles - half).astype(int).clip(0, np.array(mask.shape[::-1])).T
    x1, y1 = np.rint(middles + half).astype(int).clip(0, np.array(mask.shape[::-1])).T
    return (total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]).astype(float)


def white(mask: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Share of white pixels (n,) of a mask in each patch."""
    return _sums(mask, middles) / (patches.SIZE * OVERSAMPLING) ** 2


def enlarged_size(boxes: np.ndarray, crop_box: Sequence[int]) -> tuple[int, int]:
    """Width and height of the crop where a patch, of `boxes` (n, 4) in photo pixels, has 64 x OVERSAMPLING px."""
    _, size = patches.from_photo(boxes, np.asarray(crop_box))
    width, height = (max(1, round(length * OVERSAMPLING)) for length in size)
    return width, height


def in_picture(points: np.ndarray, size: tuple[int, int], crop_box: Sequence[int]) -> np.ndarray:
    """Points (n, 2) of the photo in pixels of a picture of the crop of `size` (width, height)."""
    x0, y0, x1, y1 = (float(v) for v in crop_box)
    return (points - (x0, y0)) * (size[0] / (x1 - x0), size[1] / (y1 - y0))
