"""A gallery made anew: the same encounters, key points and decisions, with vectors of another codebook or network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pusa import records, weights
from pusa.embedding.embed import EmbeddingConfig, PatchEmbedder, patches_of
from pusa.embedding.network import DIMENSIONS
from pusa.errors import UserError
from pusa.fisher.codebook import Codebook
from pusa.fisher.encode import fisher_vectors
from pusa.gallery import sources, tables
from pusa.gallery.crops import patches_of as projected
from pusa.gallery.geometry import NO_PATCHES, Points
from pusa.gallery.journal import Key
from pusa.gallery.store import Gallery
from pusa.records import Run

FIELDS = ("instance_id", "crop", "crop_box", "mask", "pattern", "patch_boxes", "embeddings")


def rebuild(
    old: Gallery, uri: str, codebook: Codebook, embedding: str, report: Callable[[str], None] = lambda run: None
) -> dict[str, int]:
    """Writes the gallery `uri`: what `old` has, its vectors encoded by `codebook`, less crops that were taken out.

    Patches come from the runs behind the gallery; they are embedded again by the weights `embedding` where the run's
    embeddings are not those that the codebook was fitted to. An encounter whose run is gone stays without a vector, and
    is counted. `report` is told each run before it is read. Raises UserError where a run's patterns were made by other
    weights than the codebook's, or `uri` is a gallery already.
    """
    kept = [name for name in old.encounters.schema.names if name not in ("fisher", "code", "crops")]
    rows = old.encounters.search().select(kept).to_arrow()
    keys = list(zip(rows["run"].to_pylist(), rows["encounter_id"].to_pylist(), strict=True))
    out = old.catalogue().crops
    runs = {name: Run(name) for name in dict.fromkeys(run for run, _ in keys)}
    readers = {name: _embedder(run, codebook, embedding) for name, run in runs.items() if run.exists()}
    found: dict[Key, list[np.ndarray]] = {}
    points: dict[tuple[str, str, str], Points] = {}
    for name, embedder in readers.items():
        report(name)
        wanted = {e for run, e in keys if run == name}
        for encounter_id, instance_id, boxes, patches in _patches(runs[name], wanted, embedder):
            points[name, encounter_id, instance_id] = projected(boxes, patches.ravel(), codebook)
            if instance_id not in out.get((name, encounter_id), ()):
                found.setdefault((name, encounter_id), []).append(patches)
    counts = Counter(encounters=len(keys), without_run=sum(run not in readers for run, _ in keys))
    counts["without_vector"] = 0
    new = Gallery.create(uri, codebook, old.marks)
    new.copy_journal(old)
    for part in np.array_split(np.arange(len(keys)), max(1, len(keys) // 256)):
        none = np.zeros((0, len(codebook.center)), np.float16)
        own = [np.concatenate([none, *found.get(keys[i], [])]) for i in part]
        vectors = fisher_vectors(codebook, own).astype(np.float16)
        fisher = [v if len(p) else None for v, p in zip(vectors, own, strict=True)]
        counts["without_vector"] += sum(v is None for v in fisher)
        some = rows.take(pa.array(part))
        n_patches = [len(p) if keys[i][0] in readers else n for i, p, n in
                     zip(part, own, some["n_patches"].to_pylist(), strict=True)]  # fmt: skip
        some = some.drop_columns(["n_patches"]).append_column("n_patches", pa.array(n_patches, pa.int32()))
        crops = [
            _projected(crops, keys[i], points)
            for i, crops in zip(part, old.crops([keys[i] for i in part]), strict=True)
        ]
        some = some.append_column("fisher", pa.array(fisher, pa.list_(pa.float16())))
        new.enroll(some.append_column("crops", pa.array(crops, pa.list_(tables.CROP))))
    sources.copy(old, new)
    return dict(counts)


def _projected(
    crops: Sequence[dict[str, Any]], key: Key, points: Mapping[tuple[str, str, str], Points]
) -> list[dict[str, Any]]:
    """An encounter's crops (`tables.CROP`) with their patches in another codebook's projection."""
    return [c | tables.patch_columns(points.get((*key, c["instance_id"]), NO_PATCHES)) for c in crops]


def _embedder(run: Run, codebook: Codebook, embedding: str) -> PatchEmbedder | None:
    """What embeds a run's patches for a codebook; None where its embeddings can be taken as they are."""
    used = run.finished_manifest()["weights"]
    stored = used.get("embedding") == codebook.made_with.get("embedding")
    used = used if stored else used | {"embedding": weights.digest(weights.find(embedding))}
    try:
        codebook.check(used)
    except UserError as e:
        raise UserError(f"{run.uri} cannot be encoded again. {e}") from e
    return None if stored else PatchEmbedder(EmbeddingConfig(weights=embedding))


def _patches(
    run: Run, wanted: set[str], embedder: PatchEmbedder | None
) -> Iterable[tuple[str, str, Sequence[Sequence[float]], np.ndarray]]:
    """Of the `wanted` encounters of a run: encounter_id, and of each instance that has patches its id, their boxes and
    embeddings (T, C) float16."""
    encounters = run.read("encounters", ["encounter_id", "instance_ids"]).to_pydict()
    owner = {i: e for e, ids in zip(*encounters.values(), strict=True) if e in wanted for i in ids}
    names = FIELDS if embedder else ("instance_id", "patch_boxes", "embeddings")
    for batch in run.batches("photos", [f"instances.list.element.{name}" for name in names]):
        mine = [i for nested in records.instances(batch) for i in nested if i["instance_id"] in owner]
        for instance in (i for i in mine if i["patch_boxes" if embedder else "embeddings"] is not None):
            x = embedder.embed(patches_of(instance)) if embedder else instance["embeddings"]
            x = x.astype(np.float16).reshape(-1, DIMENSIONS)
            yield owner[instance["instance_id"]], instance["instance_id"], instance["patch_boxes"], x
