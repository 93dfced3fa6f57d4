"""The crops of a run's encounters that are verified, and their key points."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from pusa import records
from pusa.gallery import geometry, verify
from pusa.gallery.geometry import Features
from pusa.gallery.verify import VerifyConfig
from pusa.records import Run


def of_encounters(
    run: Run, config: VerifyConfig, wanted: Collection[str] | None = None
) -> dict[str, dict[str, Features]]:
    """Key points of the crops that are verified of each encounter, or of the `wanted`: by encounter and instance_id."""
    encounters = run.read("encounters", ["encounter_id", "instance_ids"]).to_pydict()
    chosen = {
        e: verify.spread(ids, config.crops)
        for e, ids in zip(*encounters.values(), strict=True)
        if wanted is None or e in wanted
    }
    found = features(run, {i for ids in chosen.values() for i in ids}, config)
    return {e: {i: found[i] for i in ids} for e, ids in chosen.items()}


def features(run: Run, wanted: Collection[str], config: VerifyConfig) -> dict[str, Features]:
    """Key points of instances by instance_id; 25 KB each. On all cores."""
    result: dict[str, Features] = {}
    children = [f"instances.list.element.{name}" for name in ("instance_id", "crop", "crop_box", "mask")]
    with ThreadPoolExecutor() as pool:  # OpenCV works outside Python's lock
        for batch in run.batches("photos", children):
            mine = [i for nested in records.instances(batch) for i in nested if i["instance_id"] in wanted]
            for instance, found in zip(mine, pool.map(lambda i: geometry.features(i, config.geometry), mine)):  # noqa: B905
                result[instance["instance_id"]] = found
    return result
