"""The crops of a run's encounters that are verified, and their key points."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from pusa import records
from pusa.gallery import geometry, verify
from pusa.gallery.geometry import Features
from pusa.gallery.verify import VerifyConfig
from pusa.records import Run


def crops_of(run: Run, config: VerifyConfig, wanted: Collection[str] | None = None) -> dict[str, str]:
    """The encounter by instance_id of those instances of each encounter, or of the `wanted`, that are verified."""
    encounters = run.read("encounters", ["encounter_id", "instance_ids"]).to_pydict()
    return {
        i: e
        for e, ids in zip(*encounters.values(), strict=True)
        if wanted is None or e in wanted
        for i in verify.spread(ids, config.crops)
    }


def features(run: Run, owner: Mapping[str, str], config: VerifyConfig) -> dict[str, list[Features]]:
    """Key points of the instances `owner` names, by their owner; 25 KB each. On all cores."""
    result: dict[str, list[Features]] = {e: [] for e in owner.values()}
    children = [f"instances.list.element.{name}" for name in ("instance_id", "crop", "crop_box", "mask")]
    with ThreadPoolExecutor() as pool:  # OpenCV works outside Python's lock
        for batch in run.batches("photos", children):
            mine = [i for nested in records.instances(batch) for i in nested if i["instance_id"] in owner]
            for instance, found in zip(mine, pool.map(lambda i: geometry.features(i, config.geometry), mine)):  # noqa: B905
                result[owner[instance["instance_id"]]].append(found)
    return result
