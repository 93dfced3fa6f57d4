"""Key points described by the networks and as RootSIFT: are they found again on another day, and do maps agree?

    python benchmarks/marks.py RUN ARCHIVE

RUN is a processed synthetic ARCHIVE, whose truth says which key points lie on the same place of an animal and, turned
as they are to be described, point the same way: so many pairs there are. Found again: 4,000 of these by chance, each
sought among the 4,000 others. Maps: 160 instances by chance, all pairs of one animal and some of two, of different
sequences; inliers of the best map, and how often one animal has more of them than 99 of 100 pairs of two. Speed: one
thread.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pusa import records, truth
from pusa.embedding.train import retrieval
from pusa.gallery import geometry
from pusa.gallery.geometry import GeometryConfig
from pusa.marks import describe, places
from pusa.marks.network import SIDE
from pusa.records import Run

PAIRS, INSTANCES, STRANGERS = 4000, 160, 0.04  # share of the pairs of two animals that are compared
KINDS = {"RootSIFT": None, "any pattern": "starter/marks", "rings": "starter/rings"}


def main(folder: str, archive: Path) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    run, rng = Run(folder), np.random.default_rng(0)
    table = Table(
        "described as",
        "pairs",
        "nearest is right",
        "mAP",
        "maps of one animal",
        "inliers of two animals: 95 %, 99 %",
        "ms a crop",
    )
    animals = instances(run, archive, rng)
    for name, weights in KINDS.items():
        network = describe.load(weights or "starter/marks")  # RootSIFT sees as much, turned likewise
        held_out = places.read(run, archive, network)
        chosen = rng.permutation(len(held_out))[:PAIRS]
        ends = [np.stack([held_out.member(c, turn, rng, 0) for c in chosen]) for turn in range(2)]
        again = retrieval(*(described(weights, found) for found in ends))
        same, strangers, took = maps(animals, GeometryConfig(marks=weights), rng)
        usual, most = np.percentile(strangers, (95, 99))
        table.add_row(
            name, f"{len(held_out):,}", f"{again['recall@1']:.3f}", f"{again['mAP']:.3f}",
            f"{(same > most).mean():.3f} of {len(same)}", f"{usual:.0f}, {most:.0f}", f"{1000 * took:.0f}",
        )  # fmt: skip
    Console().print(table)


def described(weights: str | None, surroundings: np.ndarray) -> np.ndarray:
    """Descriptors (n, 128) of surroundings (n, 32, 32), rows of length 1. As RootSIFT: upright, over all of them."""
    if weights:
        return geometry.unit(describe.describer(weights)(surroundings))
    sift, middle = cv2.SIFT.create(), (SIDE - 1) / 2
    point = [cv2.KeyPoint(middle, middle, SIDE / describe.load("starter/marks").span, 0)]
    return geometry.unit(np.concatenate([sift.compute(s, point)[1] for s in surroundings]).astype(np.uint8))


def instances(run: Run, archive: Path, rng: np.random.Generator) -> list[tuple[str, str, dict]]:
    """Some instances of true animals: sequence, name, and what key points are sought in."""
    known = truth.identities(truth.true_animals(run, str(archive / "truth" / "instances.json")))
    columns = [f"instances.list.element.{name}" for name in ("instance_id", "crop", "crop_box", "mask")]
    every = [
        (sequence, known[i["instance_id"]], i)
        for batch in run.batches("photos", ["sequence_id", *columns])
        for sequence, nested in zip(batch["sequence_id"].to_pylist(), records.instances(batch), strict=True)
        for i in nested
        if i["instance_id"] in known
    ]
    return [every[k] for k in rng.permutation(len(every))[:INSTANCES]]


def maps(
    animals: list[tuple[str, str, dict]], config: GeometryConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Inliers of pairs of instances of one animal, and of two; and the seconds that the key points of one take."""
    began = time.process_time()
    found = [geometry.features(instance, config) for _, _, instance in animals]
    took = (time.process_time() - began) / len(animals)
    inliers: tuple[list[int], list[int]] = [], []
    for a, (sequence, name, _) in enumerate(animals):
        for b, (other, who, _) in enumerate(animals[:a]):
            if sequence != other and (name == who or rng.random() < STRANGERS):
                inliers[name != who].append(geometry.match(found[a], found[b], config).inliers)
    return np.array(inliers[0]), np.array(inliers[1]), took


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
