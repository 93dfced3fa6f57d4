"""A run measured against the truth: detection, grouping and identification; of a synthetic archive also its patterns
and patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pusa import exchange, metrics, partitions, ranking, records, sightings, truth
from pusa.embedding import evaluate as patch_places
from pusa.errors import UserError
from pusa.exchange import Given
from pusa.fisher.codebook import Codebook
from pusa.fisher.encode import fisher_vectors
from pusa.gallery import search
from pusa.gallery.crops import features, of_encounters
from pusa.gallery.enrolment import codebook_of
from pusa.gallery.search import Comparison, Vectors
from pusa.gallery.snapshot import Snapshot
from pusa.gallery.store import Gallery
from pusa.gallery.verify import Verifier, VerifyConfig
from pusa.listing import normal_path
from pusa.pattern import evaluate as pattern_lines
from pusa.records import Run
from pusa.segmentation import masks
from pusa.sides.evaluate import of_run as side_figures

MAX_PATCHES = 40_000  # of an archive that are compared with each other: 41 MB of embeddings


def evaluate_run(
    run: Run,
    truth_file: str,
    gallery_uri: str | None = None,
    tops: tuple[int, ...] = (1, 3, 5),
    verification: VerifyConfig | None = None,
) -> dict[str, float]:
    """Figures of a finished run against COCO truth with identities.

    precision, recall, f1: of the instances, mask IoU .5, at the run's score threshold. rand_index and others: see
    `partitions.grouping_metrics`. With a gallery, of the encounters that are not enrolled in it: top_n, the share whose
    true individual, one of the gallery's, is among the first n (an encounter without a pattern is a miss); without one,
    see `leave_one_out`. With `verification` also verified_top_n, by key points. Of sides that were told
    `pusa.sides.evaluate.of_run`; of an archive with truth/rings and truth/surface also `patterns` and `patches`.
    """
    run.finished_manifest()
    figures: dict[str, float] = dict(detection(run, truth_file))
    animals = truth.true_animals(run, truth_file)
    identities = truth.identities(animals)
    figures |= side_figures(run, animals)
    folder = Path(truth_file).parent
    if (folder / "rings").is_dir():
        figures |= patterns(run, animals, folder / "rings")
    if (folder / "surface").is_dir():
        figures |= patches(run, animals, folder / "surface")
    encounters = run.read("encounters", ["encounter_id", "sequence_id", "instance_ids", "n_patches"])
    labels = truth.sequence_partitions(encounters, identities)
    figures |= partitions.grouping_metrics([(true, found) for found, true in labels])
    names = truth.encounter_identities(encounters, identities)
    if gallery_uri:
        gallery = Gallery.open(gallery_uri)
        return figures | identification(run, names, gallery, tops, verification and gallery.verifying(verification))
    return figures | leave_one_out(run, names, tops, verification)


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


def patterns(run: Run, animals: Mapping[str, Given], rings: Path) -> dict[str, float]:
    """Patterns of the instances that are true animals, against ring masks `rings`/<annotation id>.png.

    pattern_iou, _precision, _recall, _f1, _cldice: see `pattern.evaluate.scores`, summed over instances; one without a
    pattern has found nothing. usable: share of the instances with patches.
    """
    total, usable = np.zeros(10), []
    children = (f"instances.list.element.{name}" for name in ("instance_id", "crop_box", "pattern", "usable"))
    for batch in run.batches("photos", list(children)):
        for instance in (i for nested in records.instances(batch) for i in nested):
            animal = animals.get(instance["instance_id"])
            if animal is not None and (file := rings / f"{animal.id}.png").is_file():
                total += pattern_lines.instance_counts(instance, file, animal.corner)
                usable.append(bool(instance["usable"]))
    scores = pattern_lines.scores(total)
    return {f"pattern_{name}": value for name, value in scores.items()} | {"usable": float(np.mean(usable))}


def patches(run: Run, animals: Mapping[str, Given], surface: Path) -> dict[str, float]:
    """Whether patches find their place on the body again in other sequences: `pusa.embedding.evaluate.retrieval`."""
    seen = list(patch_places.located(run, animals, surface, ("embeddings",)))
    if not seen:
        return {}
    count = [len(s.where) for s in seen]
    vectors = np.concatenate([np.asarray(s.instance["embeddings"], np.float16).reshape(len(s.where), -1) for s in seen])
    where = np.concatenate([s.where for s in seen])
    who, sequence = (
        np.repeat([str(s.animal.identity) for s in seen], count),
        np.repeat([s.sequence_id for s in seen], count),
    )
    rng = np.random.default_rng(0)
    keep = rng.permutation(len(vectors))[:MAX_PATCHES]
    figures = patch_places.retrieval(vectors[keep], where[keep], who[keep], sequence[keep], rng).means()
    return {f"patch_{name}": value for name, value in figures.items()}


def leave_one_out(
    run: Run, names: Mapping[str, str], tops: tuple[int, ...], verification: VerifyConfig | None = None
) -> dict[str, float]:
    """Each encounter with a name against those of all other sequences; an individual is as near as its nearest one.

    Encounters of individuals that no other sequence has are left out (`no_match`); one without a pattern is a miss.
    """
    rows = run.read("encounters", ["encounter_id", "sequence_id", "fisher"])
    rows = rows.filter([i in names for i in rows["encounter_id"].to_pylist()])
    ids, sequence = rows["encounter_id"].to_pylist(), np.array(rows["sequence_id"].to_pylist())
    vectors = Vectors([run.key] * len(ids), ids, [names[i] for i in ids], _vectors(rows["fisher"]))
    individual = np.array(vectors.individuals)
    other = sequence[:, None] != sequence
    findable = (other & (individual[:, None] == individual)).any(axis=1)
    result: dict[str, float] = {"queries": int(findable.sum()), "no_match": int((~findable).sum())}
    result["individuals"] = len(set(vectors.individuals))
    queries, allowed, true = vectors.fisher[findable], other[findable], individual[findable]
    result |= _tops("top", search.compare(queries, vectors, allowed), true, tops)
    if verification is None or not vectors.fisher.any():  # grouped only, without a codebook
        return result
    crops = of_encounters(run, verification, codebook_of(run), set(ids))
    mine = [list(crops[i].values()) for i in ids]
    asked = [mine[i] for i in np.flatnonzero(findable)]
    found = search.compare(queries, vectors, allowed, asked, Verifier(mine, verification))
    return result | _tops("verified_top", found, true, tops)


def _vectors(fisher: pa.ChunkedArray) -> np.ndarray:
    """Fisher vectors (n, L) float16 of a column; zeros where there is none."""
    lengths = [len(f) for f in fisher if f.is_valid]
    vectors = np.zeros((len(fisher), max(lengths, default=1)), np.float16)
    for row, value in zip(vectors, fisher, strict=True):
        if value.is_valid:
            row[:] = value.values.to_numpy(zero_copy_only=False)
    return vectors


def _tops(prefix: str, found: Comparison, true: np.ndarray, tops: tuple[int, ...]) -> dict[str, float]:
    """Top-n of queries with `true` names (n,)."""
    place = {name: k for k, name in enumerate(found.names)}
    ranks = ranking.ranks(found.cost, np.array([place.get(name, -1) for name in true], int))
    return {f"{prefix}_{n}": ranking.top_n(ranks, n) if len(ranks) else float("nan") for n in tops}


def identification(
    run: Run,
    names: dict[str, str],
    gallery: Gallery,
    tops: tuple[int, ...],
    verification: VerifyConfig | None = None,
) -> dict[str, float]:
    """Top-n over the encounters of `names` that are not in the gallery, and how many of them are new to it."""
    snapshot = Snapshot(gallery)
    vectors = snapshot.exact()
    known = set(vectors.individuals)
    enrolled = {e for r, e in zip(vectors.runs, vectors.encounter_ids, strict=True) if r == run.key}
    queries = {e: name for e, name in names.items() if e not in enrolled}
    findable = {e: name for e, name in queries.items() if name in known}
    rows = run.read("encounters", ["encounter_id", "fisher"])
    rows = rows.filter([i in findable for i in rows["encounter_id"].to_pylist()])
    ids, mine = rows["encounter_id"].to_pylist(), _vectors(rows["fisher"])
    true = np.array([findable[i] for i in ids])
    result: dict[str, float] = {"queries": len(ids), "new": len(queries) - len(ids), "individuals": len(known)}
    allowed = np.ones((len(ids), len(vectors.individuals)), bool)
    result |= _tops("top", search.compare(mine, vectors, allowed), true, tops)
    if verification is None or not len(ids):
        return result
    crops = of_encounters(run, verification, codebook_of(run), set(ids))
    asked = [list(crops[i].values()) for i in ids]
    found = search.compare(mine, vectors, allowed, asked, Verifier(snapshot.features, verification))
    return result | _tops("verified_top", found, true, tops)


def evaluate_sightings(
    run: Run, truth_file: str, codebook: str | None = None, verification: VerifyConfig | None = None
) -> dict[str, Any]:
    """Re-identification by photo and by sighting (a sequence of the run), sides apart: `pusa.sightings`.

    For archives with one known animal a photo. Every photo's own Fisher vector is compared, with `verification` also
    its points, its key points without its patches, and those as RootSIFT describes them; one without a pattern is never
    found by the first. Raises
    UserError where a photo shows more than one known animal.
    """
    manifest = run.finished_manifest()
    book = Codebook.load(codebook or manifest["config"]["encounters"]["codebook"])
    identities = truth.identities(truth.true_animals(run, truth_file))
    rows: list[tuple[str, str, str, np.ndarray, str]] = []
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
                x = x.reshape(-1, len(book.center))
                rows.append((identities[i["instance_id"]], i["side"], sequence_id, x, i["instance_id"]))
    individual, side, sighting = (np.array([row[c] for row in rows]) for c in range(3))
    vectors = fisher_vectors(book, [row[3] for row in rows])
    empty = ~vectors.any(axis=1)
    distance = search.distances(vectors, vectors)
    distance[empty] = distance[:, empty] = np.inf
    result = {
        "photos": len(rows),
        "individuals": len(set(individual)),
        "without_pattern": int(empty.sum()),
        "by photo": sightings.by_photo(distance, individual, side, sighting),
        "by sighting": sightings.by_sighting(distance, individual, side, sighting),
    }
    if verification is None:
        return result
    compared = (side[:, None] == side) & (sighting[:, None] != sighting)
    alone = verification.model_copy(update={"kinds": ("marks",)})
    sift = alone.model_copy(update={"geometry": verification.geometry.model_copy(update={"marks": None})})
    # The last is the field's bar: RootSIFT and RANSAC inside the mask.
    for way, config in {"verified": verification, "key points alone": alone, "RootSIFT alone": sift}.items():
        points = features(run, {row[4] for row in rows}, config, book)
        verifier = Verifier([[points[row[4]]] for row in rows], config)
        cost = np.stack([
            verifier([points[row[4]]], allowed).cost(d)
            for row, allowed, d in zip(rows, compared, distance, strict=True)
        ])  # fmt: skip
        result[f"by photo, {way}"] = sightings.by_photo(cost, individual, side, sighting)
        result[f"by sighting, {way}"] = sightings.by_sighting(cost, individual, side, sighting)
    return result
