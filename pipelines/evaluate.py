"""A run measured against the truth: detection, grouping and identification of a synthetic or labelled archive."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.identify import true_identities
from pusa import exchange, metrics, partitions, records, sightings, truth
from pusa.errors import UserError
from pusa.fisher.codebook import Codebook
from pusa.fisher.encode import fisher_vectors
from pusa.gallery import search
from pusa.gallery.store import Gallery
from pusa.photos import normal_path
from pusa.records import Run
from pusa.segmentation import masks


def evaluate_run(
    run: Run, truth_file: str, gallery_uri: str | None = None, tops: tuple[int, ...] = (1, 3, 5)
) -> dict[str, float]:
    """Figures of a finished run against COCO truth with identities.

    precision, recall, f1: of the instances, mask IoU .5, at the run's score threshold. rand_index and others: see
    `partitions.grouping_metrics`. With a gallery, of the encounters that are not enrolled in it: top_n, the share whose
    true individual, one of the gallery's, is among the first n (an encounter without a pattern is a miss).
    """
    run.finished_manifest()
    figures: dict[str, float] = dict(detection(run, truth_file))
    identities = true_identities(run, truth_file)
    encounters = run.read("encounters", ["encounter_id", "sequence_id", "instance_ids", "n_patches"])
    labels = truth.sequence_partitions(encounters, identities)
    figures |= partitions.grouping_metrics([(true, found) for found, true in labels])
    if gallery_uri:
        figures |= identification(
            run, truth.encounter_identities(encounters, identities), Gallery.open(gallery_uri), tops
        )
    return figures


def detection(run: Run, truth_file: str) -> dict[str, float]:
    """Precision, recall and F1 of a run's instances against the masks of a COCO file, at IoU .5."""
    known = exchange.read_instances(truth_file)
    right = found = animals = 0
    children = (f"instances.list.element.{name}" for name in ("mask", "score"))
    for batch in run.batches("photos", ["path", *children]):
        for path, nested in zip(batch["path"].to_pylist(), records.instances(batch), strict=True):
            nested = sorted(nested, key=lambda i: -(i["score"] or 0))
            true = [g.mask for g in known.get(normal_path(path), []) if g.mask]
            iou = masks.iou([i["mask"] for i in nested], true)
            right += int(metrics.match(iou).sum())
            found += len(nested)
            animals += len(true)
    precision, recall, f1 = metrics.precision_recall_f1(right, found, animals)
    return {"animals": animals, "instances": found, "precision": precision, "recall": recall, "f1": f1}


def identification(run: Run, names: dict[str, str], gallery: Gallery, tops: tuple[int, ...]) -> dict[str, float]:
    """Top-n over the encounters of `names` that are not in the gallery, and how many of them are new to it."""
    vectors = gallery.vectors()
    known = set(vectors.individuals)
    enrolled = {e for r, e in zip(vectors.runs, vectors.encounter_ids, strict=True) if r == run.key}
    queries = {e: name for e, name in names.items() if e not in enrolled}
    ranks = {e: np.inf for e, name in queries.items() if name in known}
    for batch in run.batches("encounters", ["encounter_id", "fisher"], rows=256):
        for encounter_id, fisher in zip(batch["encounter_id"].to_pylist(), batch["fisher"], strict=True):
            if encounter_id in ranks and fisher.is_valid:
                query = fisher.values.to_numpy(zero_copy_only=False)[None]
                individuals, distance, _ = search.by_individual(
                    search.distances(query, vectors.fisher), vectors.individuals
                )
                true = distance[0, individuals.index(queries[encounter_id])]
                ranks[encounter_id] = int((distance[0] <= true).sum())  # ties count against
    result: dict[str, float] = {"queries": len(ranks), "new": len(queries) - len(ranks), "individuals": len(known)}
    values = np.array(list(ranks.values()))
    return result | {f"top_{n}": float((values <= n).mean()) if len(values) else float("nan") for n in tops}


def evaluate_sightings(run: Run, truth_file: str, codebook: str | None = None) -> dict[str, Any]:
    """Re-identification by photo and by sighting (a sequence of the run), sides apart: `pusa.sightings`.

    For archives with one known animal a photo. Every photo's own Fisher vector is compared; one without a pattern is
    never found. Raises UserError where a photo shows more than one known animal.
    """
    manifest = run.finished_manifest()
    book = Codebook.load(codebook or manifest["config"]["encounters"]["codebook"])
    identities = true_identities(run, truth_file)
    rows: list[tuple[str, str, str, np.ndarray]] = []
    children = (f"instances.list.element.{name}" for name in ("instance_id", "side", "embeddings"))
    for batch in run.batches("photos", ["sequence_id", *children]):
        for sequence_id, nested in zip(batch["sequence_id"].to_pylist(), records.instances(batch), strict=True):
            mine = [i for i in nested if i["instance_id"] in identities]
            if len(mine) > 1:
                raise UserError(
                    f"The sequence {sequence_id} has a photo of {len(mine)} known animals: use `evaluate run`."
                )
            for i in mine:
                x = i["embeddings"] if i["embeddings"] is not None else np.zeros(0, np.float16)
                rows.append((identities[i["instance_id"]], i["side"], sequence_id, x.reshape(-1, len(book.center))))
    individual, side, sighting = (np.array([row[c] for row in rows]) for c in range(3))
    vectors = fisher_vectors(book, [row[3] for row in rows])
    empty = ~vectors.any(axis=1)
    distance = search.distances(vectors, vectors)
    distance[empty] = distance[:, empty] = np.inf
    return {
        "photos": len(rows),
        "individuals": len(set(individual)),
        "without_pattern": int(empty.sum()),
        "by photo": sightings.by_photo(distance, individual, side, sighting),
        "by sighting": sightings.by_sighting(distance, individual, side, sighting),
    }
