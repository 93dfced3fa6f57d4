"""Where identification is lost: extracted patterns beside the true rings, all else equal.

    python benchmarks/ceiling.py RUN ARCHIVE

RUN: a synthetic ARCHIVE processed with its true masks (`--instances`). Encounters are the true ones. Patches,
embedding, codebook and ranking are the starter's, once on the patterns of the run, once on the rings as the renderer
drew them in each photo, visible or not. Leave one sequence out; also by how well a person sees the rings
(`ring_clarity`: of the encounter's best crop, and of the individual's best other encounter, the smaller).
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from pusa import photos, ranking, records, truth
from pusa.embedding.embed import EmbeddingConfig, PatchEmbedder
from pusa.fisher.codebook import Codebook
from pusa.fisher.encode import fisher_vectors
from pusa.gallery import search
from pusa.pattern import extract, patches
from pusa.pattern.evaluate import true_rings
from pusa.pattern.extract import PatternConfig
from pusa.records import Run

CLARITY = ((-np.inf, np.inf), (-np.inf, 0.3), (0.3, 0.5), (0.5, 0.8), (0.8, np.inf))
Encounter = tuple[str, str]  # sequence, individual


def main(run: Run, archive: Path) -> None:
    coco = json.loads((archive / "truth" / "instances.json").read_text())
    clarity = {str(a["id"]): a["ring_clarity"] for a in coco["annotations"]}
    embedder, codebook = PatchEmbedder(EmbeddingConfig()), Codebook.load("starter/codebook")
    for name in ("extracted", "true rings"):
        found: dict[Encounter, list[np.ndarray]] = defaultdict(list)
        clear: dict[Encounter, float] = defaultdict(lambda: -np.inf)
        for encounter, number, pattern in patterns(run, archive, true=name == "true rings"):
            normalised, _ = extract.normalise_thickness(pattern, PatternConfig())
            found[encounter].append(patches.extract(normalised, PatternConfig().patches)[0])
            clear[encounter] = max(clear[encounter], clarity[number])
        encounters = [e for e, p in found.items() if sum(map(len, p))]
        vectors = fisher_vectors(codebook, [embedder.embed(np.concatenate(found[e])) for e in encounters])
        print(f"{name}: {len(encounters)} encounters with patches")
        report(vectors, encounters, np.array([clear[e] for e in encounters]))


def patterns(run: Run, archive: Path, true: bool):  # type: ignore[no-untyped-def]
    """Encounter, annotation id and pattern (h, w) bool of each instance of a true animal."""
    animals = truth.true_animals(run, str(archive / "truth" / "instances.json"))
    children = (f"instances.list.element.{name}" for name in ("instance_id", "crop_box", "pattern"))
    for batch in run.batches("photos", ["sequence_id", *children]):
        for sequence_id, nested in zip(batch["sequence_id"].to_pylist(), records.instances(batch), strict=True):
            for instance in (i for i in nested if i["instance_id"] in animals):
                animal = animals[instance["instance_id"]]
                if true:
                    rings = archive / "truth" / "rings" / f"{animal.id}.png"
                    pattern = true_rings(instance["crop_box"], rings, animal.corner)
                elif instance["pattern"] is None:
                    continue
                else:
                    pattern = photos.decode_mask_png(instance["pattern"])
                yield (sequence_id, str(animal.identity)), str(animal.id), pattern


def report(vectors: np.ndarray, encounters: list[Encounter], clear: np.ndarray) -> None:
    """Top-n of each encounter against those of all other sequences, by clarity."""
    sequence = np.array([s for s, _ in encounters])
    distance = search.distances(vectors, vectors)
    distance[sequence[:, None] == sequence] = np.inf
    individuals, nearest, _ = search.by_individual(distance, [who for _, who in encounters])
    own = np.array([individuals.index(who) for _, who in encounters])
    again = (sequence[:, None] != sequence) & (own[:, None] == own)
    ranks = ranking.ranks(nearest, own)
    both = np.minimum(clear, np.where(again, clear, -np.inf).max(axis=1))
    for low, high in CLARITY:
        chosen = again.any(axis=1) & (both >= low) & (both < high)
        tops = ", ".join(f"top-{n} {ranking.top_n(ranks[chosen], n):.3f}" for n in (1, 3, 5)) if chosen.any() else ""
        print(f"  clarity {low} to {high}: {chosen.sum()} queries, {tops}")


if __name__ == "__main__":
    main(Run(sys.argv[1]), Path(sys.argv[2]))
