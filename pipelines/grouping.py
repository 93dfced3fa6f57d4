"""Grouping measured on a run with known identities, and the whitening of descriptors learnt from one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pusa import records, truth
from pusa.errors import UserError
from pusa.grouping.descriptor import Describer, DescriptorConfig
from pusa.grouping.evaluate import Score, Shown, missing, score_all, with_false
from pusa.grouping.whitening import Sums
from pusa.records import Run

SIZES = ((1, 4), (5, 9), (10, 10_000))  # animals in a sequence
FIELDS = ("instance_id", "box", "descriptor")


def evaluate_grouping(
    run: Run,
    truth_file: str,
    descriptors: Mapping[str, DescriptorConfig],
    fewest: int = 1,
    report: Callable[[str], None] = lambda name: None,
) -> Iterator[tuple[str, str, dict[str, Score]]]:
    """For the run's own descriptors and each of `descriptors`: its name, the set of sequences, and the score of every
    assignment on it. Sequences of `fewest` animals and more."""
    identities = truth.identities(truth.true_animals(run, truth_file))
    for name, config in ({"as stored": None} | dict(descriptors)).items():
        report(name)
        every = [s for s in sequences(run, identities, config) if s.animals >= fewest]
        if not any(len(s.labels()) > 1 for s in every):
            raise UserError(f"No sequence of {run.uri} shows {fewest} animals or more, twice: nothing to measure.")
        yield name, "as found", score_all(every)
        for share in (0.3, 0.6):
            rng = np.random.default_rng(0)
            yield name, f"{share:.0%} of the instances missing", score_all(missing(every, share, rng))
        if len(every) > 1:
            yield name, "a false one in 30% of the photos", score_all(with_false(every, 0.3, np.random.default_rng(0)))
        for low, high in SIZES:
            some = [s for s in every if low <= s.animals <= high]
            if any(len(s.labels()) > 1 for s in some):
                yield name, f"{low} to {high} animals" if high < 1000 else f"{low} animals and more", score_all(some)


def sequences(run: Run, identities: Mapping[str, str], config: DescriptorConfig | None = None) -> list[Shown]:
    """The sequences of a run; an instance that is no true animal has a name of its own. `config`: describe the crops
    anew; None: take what the run has."""
    describer = Describer(config) if config is not None else None
    wanted = FIELDS if describer is None else (*FIELDS, "crop", "crop_box", "mask")
    found: dict[str, list[tuple[Any, str, list[dict[str, Any]]]]] = defaultdict(list)
    columns = ["sequence_id", "taken_at", "path", "status", "duplicate_of"]
    for batch in run.batches("photos", [*columns, *(f"instances.list.element.{name}" for name in wanted)]):
        for row, nested in zip(batch.select(columns).to_pylist(), _described(batch, describer), strict=True):
            if row["status"] == "ok" and row["duplicate_of"] is None:
                # Photos without a time come last, in the order of their paths, as in the grouping itself.
                order = (row["taken_at"] is None, row["taken_at"] or 0, row["path"])
                found[row["sequence_id"]].append((order, row["path"], nested))
    result = []
    for _, photos in sorted(found.items()):
        photos.sort(key=lambda p: p[0])
        width = next((len(i["descriptor"]) for _, _, nested in photos for i in nested), 0)
        result.append(
            Shown(
                [np.array([i["descriptor"] for i in n], np.float32).reshape(len(n), width) for _, _, n in photos],
                [np.array([i["box"] for i in n], float).reshape(len(n), 4) for _, _, n in photos],
                [[identities.get(i["instance_id"], f"? {i['instance_id']}") for i in n] for _, _, n in photos],
            )
        )
    return result


def _described(batch: pa.Table, describer: Describer | None) -> list[list[dict[str, Any]]]:
    nested = records.instances(batch)
    for instance in (i for row in nested for i in row if describer is not None):
        instance["descriptor"] = describer.vector(instance)  # type: ignore[union-attr]
    return nested


def pairs_of(run: Run, truth_file: str, config: DescriptorConfig | None = None) -> Sums:
    """What a whitening is learnt from: all descriptors of a run, and pairs of one animal in consecutive photos of a
    sequence that show it. `config`: describe the crops anew; None: take what the run has."""
    identities = truth.identities(truth.true_animals(run, truth_file))
    sums: Sums | None = None
    for s in sequences(run, identities, config):
        every = [d for d in s.descriptors if len(d)]
        if not every:
            continue
        x = np.concatenate(every)
        sums = sums or Sums(x.shape[1])
        sums.add(x, *_pairs(s.labels()))
    if sums is None:
        raise UserError(f"{run.uri} has no instance to learn from.")
    return sums


def _pairs(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Places of each animal and of the same one where it is shown next."""
    last: dict[str, int] = {}
    pairs = []
    for i, name in enumerate(names):
        if name in last:
            pairs.append((last[name], i))
        last[name] = i
    queries, positives = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(queries, int), np.array(positives, int)
