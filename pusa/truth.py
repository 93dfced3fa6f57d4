"""Truth beside a run: which known animal an instance, and an encounter, really is.

Truth is a file of instances with identities (COCO with the extra key `identity`, or another that `pusa.exchange`
reads); an instance takes the identity of the true one whose mask it overlaps most, if the IoU is at least one half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from scipy.optimize import linear_sum_assignment

from pusa import exchange, records
from pusa.errors import UserError
from pusa.exchange import Given
from pusa.exchange.tables import read_csv
from pusa.listing import normal_path
from pusa.records import Run
from pusa.segmentation import masks

MATCH_IOU = 0.5


def matches(photos: pa.Table, truth: Mapping[str, Sequence[Given]]) -> dict[str, Given]:
    """The true animal by instance_id for the rows of a photos table (columns path and instances: instance_id, mask).

    One to one within a photo, the assignment of largest total IoU: of masks, or of boxes where truth has no mask. A
    true animal that is the whole photo is its only instance; where there are several, nobody knows which. Instances
    that match nothing are not in the result.
    """
    result: dict[str, Given] = {}
    for path, found in zip(photos["path"].to_pylist(), records.instances(photos), strict=True):
        if not found or not (given := truth.get(normal_path(path))):
            continue
        height, width = found[0]["mask"]["size"]
        known = [g.with_mask(height, width) for g in given]
        if len(known) == len(found) == 1 and known[0].whole:
            result[found[0]["instance_id"]] = known[0]
            continue
        iou = _iou([i["mask"] for i in found], known, width, height)
        for i, j in zip(*linear_sum_assignment(-iou), strict=True):
            if iou[i, j] >= MATCH_IOU:
                result[found[i]["instance_id"]] = known[j]
    return result


def _iou(found: Sequence[masks.Rle], known: Sequence[Given], width: int, height: int) -> np.ndarray:
    """IoU of found and true animals, (n, m): of boxes for the true ones without a mask."""
    result = np.zeros((len(found), len(known)))
    boxes = np.array([masks.box(m) for m in found], np.float64)
    for j, g in enumerate(known):
        if g.mask is not None:
            result[:, j] = masks.iou(found, [g.mask])[:, 0]
        elif not g.whole:
            box = g.box_in(width, height).astype(np.float64)
            sides = np.clip(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0, None)
            both = sides.prod(1)
            result[:, j] = both / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - both)
    return result


def identities(matched: Mapping[str, Given]) -> dict[str, str]:
    """Identity by instance_id of the matched instances whose true animal has a name."""
    return {i: g.identity for i, g in matched.items() if g.identity is not None}


def true_animals(run: Run, file: str) -> dict[str, Given]:
    """The true animal by instance_id: the instances of a file (`exchange.read_instances`). Raises UserError where "
    "none fits."""
    known = exchange.read_instances(file, archive=run.manifest().get("archive"))
    columns = ["path", "instances.list.element.instance_id", "instances.list.element.mask"]
    animals: dict[str, Given] = {}
    for batch in run.batches("photos", columns):
        animals |= matches(batch, known)
    if not identities(animals):
        raise UserError(
            f"{file}: no instance of {run.uri} matches one with an `identity`. Are paths relative to the archive?"
        )
    return animals


def encounter_identities(encounters: pa.Table, identities: Mapping[str, str]) -> dict[str, str]:
    """Identity by encounter_id: that of most of its instances; the alphabetically first on a tie; none where none
    matched.
    """
    result: dict[str, str] = {}
    rows = zip(encounters["encounter_id"].to_pylist(), encounters["instance_ids"].to_pylist(), strict=True)
    for encounter_id, members in rows:
        votes = Counter(identities[m] for m in members if m in identities)
        if votes:
            result[encounter_id] = min(votes, key=lambda name: (-votes[name], name))
    return result


def encounter_names(run: Run, file: str) -> dict[str, str]:
    """Individual by encounter_id from a CSV (columns encounter_id, individual), or from instances with an identity:
    COCO, MegaDetector's as Pusa writes them, wildlife-datasets, SealID, Camtrap DP.

    A CSV of several runs has a column run (`pusa catalogue build` writes it): where this run is in it, its rows alone
    count. In the second case an encounter takes the name of most of its instances, matched by mask. Raises UserError
    where the CSV names an encounter that the run does not have, or gives one two names.
    """
    if exchange.kind_of(file) != "csv":
        return encounter_identities(
            run.read("encounters", ["encounter_id", "instance_ids"]), identities(true_animals(run, file))
        )
    known = set(run.read("encounters", ["encounter_id"])["encounter_id"].to_pylist())
    names: dict[str, str] = {}
    rows = list(read_csv(file, ["encounter_id", "individual"]))
    for line, row in [each for each in rows if each[1].get("run") == run.key] or rows:
        if row["encounter_id"] not in known:
            raise UserError(f"{file}, line {line}: the run {run.uri} has no encounter {row['encounter_id']!r}.")
        name = row["individual"]
        if name and (other := names.setdefault(row["encounter_id"], name)) != name:
            raise UserError(
                f"{file}, line {line}: expected one individual an encounter, found {name!r} for {row['encounter_id']}, "
                f"which is {other!r} above. If they are one animal, give it one name."
            )
    return names


def instance_names(run: Run, file: str) -> dict[str, str]:
    """Individual by instance_id: what `encounter_names` says of the encounter that an instance is of."""
    names = encounter_names(run, file)
    encounters = run.read("encounters", ["encounter_id", "instance_ids"]).to_pydict()
    return {i: names[e] for e, ids in zip(*encounters.values(), strict=True) if e in names for i in ids}


def sequence_partitions(encounters: pa.Table, identities: Mapping[str, str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per sequence the labels of its instances with a known identity: (group found, true individual), as integers."""
    sequences: dict[str, tuple[list[int], list[str]]] = {}
    columns = (encounters[c].to_pylist() for c in ("sequence_id", "instance_ids"))
    for number, (sequence_id, members) in enumerate(zip(*columns, strict=True)):
        found, true = sequences.setdefault(sequence_id, ([], []))
        known = [m for m in members if m in identities]
        found += [number] * len(known)
        true += [identities[m] for m in known]
    return [
        (np.unique(found, return_inverse=True)[1], np.unique(true, return_inverse=True)[1])
        for found, true in sequences.values()
        if found
    ]
