"""The crops of a run's encounters that are verified, and their points."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from pusa import records
from pusa.fisher.codebook import Codebook
from pusa.gallery import geometry, verify
from pusa.gallery.geometry import Features, GeometryConfig, Points
from pusa.gallery.verify import VerifyConfig
from pusa.records import Run


def of_encounters(
    run: Run, config: VerifyConfig, codebook: Codebook, wanted: Collection[str] | None = None
) -> dict[str, dict[str, Features]]:
    """Points of the crops that are verified of each encounter, or of the `wanted`: by encounter and instance_id."""
    encounters = run.read("encounters", ["encounter_id", "instance_ids"]).to_pydict()
    chosen = {
        e: verify.spread(ids, config.crops)
        for e, ids in zip(*encounters.values(), strict=True)
        if wanted is None or e in wanted
    }
    found = features(run, {i for ids in chosen.values() for i in ids}, config, codebook)
    return {e: {i: found[i] for i in ids} for e, ids in chosen.items()}


class Reader:
    """Makes what is compared of a run's instances: of the key points that the run found, where it found those that are
    asked for, else of their crops. `fields`: of an instance that it needs."""

    def __init__(self, manifest: Mapping[str, Any], config: GeometryConfig, codebook: Codebook) -> None:
        self.config, self.codebook = config, codebook
        self.stored = geometry.as_found(manifest, config)
        found = ("keypoints", "marks", "picture") if self.stored else ("crop", "mask")
        self.fields = ("instance_id", "crop_box", "patch_boxes", "embeddings", *found)

    def __call__(self, instances: Sequence[dict[str, Any]], pool: Executor) -> list[Features]:
        """What is compared of each."""
        patches = [patches_of(i["patch_boxes"], i["embeddings"], self.codebook) for i in instances]
        if self.stored:
            return [geometry.stored(i, self.config, p) for i, p in zip(instances, patches, strict=True)]
        # OpenCV works outside Python's lock.
        return list(pool.map(lambda i, p: geometry.features(i, self.config, p), instances, patches))


def features(run: Run, wanted: Collection[str], config: VerifyConfig, codebook: Codebook) -> dict[str, Features]:
    """Points of instances by instance_id; 70 KB each. On all cores."""
    result: dict[str, Features] = {}
    read = Reader(run.manifest(), config.geometry, codebook)
    with ThreadPoolExecutor() as pool:
        for batch in run.batches("photos", [f"instances.list.element.{name}" for name in read.fields]):
            mine = [i for nested in records.instances(batch) for i in nested if i["instance_id"] in wanted]
            result |= {i["instance_id"]: found for i, found in zip(mine, read(mine, pool), strict=True)}
    return result


def patches_of(boxes: Any, embeddings: np.ndarray | None, codebook: Codebook) -> Points:
    """The middles of an instance's patches, n x (x0, y0, x1, y1) in px of the photo, and its embeddings (n x C flat) in
    the codebook's projection: what tells patches apart is in its first axes, an eighth of the numbers."""
    if embeddings is None or not boxes:
        return geometry.NO_PATCHES
    corners = np.array(list(boxes), np.float32).reshape(-1, 4)
    x = codebook.project(torch.tensor(embeddings).reshape(len(corners), -1))
    return Points((corners[:, :2] + corners[:, 2:]) / 2, x.numpy().astype(np.float16))
