"""What one pass over a run's photos tells: counts, the photos that need a look, distributions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pusa import records
from pusa.records import Run
from pusa.sequences import by_size

MOST_ANIMALS = 10  # photos with so many or more are one bar


@dataclass
class Overview:
    """Counts over the photos of a run, the photos that need a look, and in which file an instance is."""

    photos: int = 0
    instances: int = 0
    usable: int = 0
    empty: int = 0  # photos that were read and have no animal
    errors: list[tuple[str, str]] = field(default_factory=list)  # path, reason
    copies: list[tuple[str, str]] = field(default_factory=list)  # path, path of the photo it is a copy of
    sequences: Counter[str] = field(default_factory=Counter)  # photos of each
    animals: Counter[int] = field(default_factory=Counter)  # photos by their number of animals
    reasons: Counter[str] = field(default_factory=Counter)  # why a pattern is not usable
    file_of: dict[str, str] = field(default_factory=dict)  # instance_id -> file of the table `photos`

    @property
    def error_reasons(self) -> list[tuple[str, int]]:
        return Counter(reason for _, reason in self.errors).most_common()


def survey(run: Run) -> Overview:
    """Reads no picture: some columns only, a file at a time."""
    overview = Overview()
    copies: list[tuple[str, str]] = []
    nested = [f"instances.list.element.{name}" for name in ("instance_id", "usable", "unusable_reason")]
    columns = ["path", "duplicate_of", "sequence_id", "status", "error", *nested]
    for file in run.files("photos"):
        photos = run.read_file(file, columns)
        for row, found in zip(photos.drop_columns(["instances"]).to_pylist(), records.instances(photos), strict=True):
            overview.photos += 1
            overview.sequences[row["sequence_id"]] += 1
            if row["status"] == "error":
                overview.errors.append((row["path"], row["error"] or "no reason given"))
                continue
            overview.instances += len(found)
            overview.usable += sum(bool(i["usable"]) for i in found)
            overview.empty += not found
            overview.animals[min(len(found), MOST_ANIMALS)] += 1
            overview.reasons.update(reason_of(i) for i in found if not i["usable"])
            overview.file_of.update((i["instance_id"], file) for i in found)
            if row["duplicate_of"]:
                copies.append((row["path"], row["duplicate_of"]))
    overview.errors.sort()
    if copies:
        every = run.read("photos", ["photo_id", "path"])
        originals = every.filter(pc.is_in(every["photo_id"], value_set=pa.array([i for _, i in copies])))
        path_of = dict(zip(*(originals[c].to_pylist() for c in ("photo_id", "path")), strict=True))
        overview.copies = sorted((path, path_of[original]) for path, original in copies)
    return overview


def reason_of(instance: dict[str, Any]) -> str:
    """Why the pattern of an instance is not usable."""
    return instance["unusable_reason"] or "no reason given"


def charts(overview: Overview) -> list[tuple[str, dict[str, int]]]:
    """The charts of a run: a title, and counts by name."""
    names = [str(n) if n < MOST_ANIMALS else f"{n} or more" for n in range(max(overview.animals, default=-1) + 1)]
    return [
        ("Photos by number of animals in them", {name: overview.animals[n] for n, name in enumerate(names)}),
        ("Sequences by number of photos", by_size(overview.sequences.values())),
        ("Animals by what came of their pattern", {"usable": overview.usable, **dict(overview.reasons.most_common())}),
    ]
