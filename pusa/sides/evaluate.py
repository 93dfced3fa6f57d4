"""How often the side is told right."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pusa import records
from pusa.exchange import Given
from pusa.records import FLANKS, Run
from pusa.sides.agree import agreed
from pusa.sides.network import KINDS


def agreement(told: np.ndarray, kinds: np.ndarray) -> dict[str, float]:
    """Figures of probabilities (n, 4) that were told of pictures whose true side is `kinds` (n,), numbers of KINDS.

    right: share whose likeliest side is the true one; flank: likewise, of those that show a flank; swapped: share of
    these that are taken for the other one. NaN where there are none.
    """
    likeliest, flanks = told.argmax(axis=1), [KINDS.index(flank) for flank in FLANKS]
    flank, right = np.isin(kinds, flanks), likeliest == kinds
    return {
        "right": share(right),
        "flank": share(right[flank]),
        "swapped": share((np.isin(likeliest, flanks) & ~right)[flank]),
    }


def of_run(run: Run, animals: Mapping[str, Given]) -> dict[str, float]:
    """Figures of the sides that were told of a run's instances, by their true `animals` (`truth.true_animals`); nothing
    where none was told.

    side_told: share of which a side is told, and not "unknown". flank_right: share of the flanks told that are the true
    one. flank_found, flank_swapped: share of the true flanks told as such, and taken for the other one; of encounters
    that truly show one flank alone, group_flank_found and group_flank_swapped: this flank is what their pictures
    agree on (`agreed`), or the other one is among it.
    """
    told: dict[str, tuple[str, float]] = {}
    columns = [f"instances.list.element.{name}" for name in ("instance_id", "side", "side_probability")]
    for batch in run.batches("photos", columns):
        for instance in (i for row in records.instances(batch) for i in row):
            known = animals.get(instance["instance_id"])
            if known is not None and known.side != "unknown" and instance.get("side_probability") is not None:
                told[instance["instance_id"]] = instance["side"], instance["side_probability"]
    if not told:
        return {}
    ids = list(told)
    found, true = np.array([told[i][0] for i in ids]), np.array([animals[i].side for i in ids])
    says, is_flank = np.isin(found, FLANKS), np.isin(true, FLANKS)
    groups = []
    for members in run.read("encounters", ["instance_ids"])["instance_ids"].to_pylist():
        mine = [i for i in members if i in told]
        truly = {animals[i].side for i in mine}
        if len(truly) == 1 and truly <= set(FLANKS):
            groups.append((truly, set(agreed([told[i] for i in mine])) & set(FLANKS)))
    return {
        "side_told": share(found != "unknown"),
        "flank_right": share((found == true)[says]),
        "flank_found": share((found == true)[is_flank]),
        "flank_swapped": share((says & (found != true))[is_flank]),
        "group_flank_found": share(np.array([seen == truly for truly, seen in groups])),
        "group_flank_swapped": share(np.array([bool(seen - truly) for truly, seen in groups])),
    }


def share(of: np.ndarray) -> float:
    return float(of.mean()) if len(of) else float("nan")
