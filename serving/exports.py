"""What was decided, as files to take away. Another format is one more entry of EXPORTS."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator

from pusa.gallery.journal import Decision, Key
from serving.shelf import Contents

COLUMNS = ("run", "encounter_id", "sequence_id", "place", "taken_from", "taken_to", "side", "individual", "verdict",
           "decided_by", "decided_at")  # fmt: skip


def identities(contents: Contents) -> Iterator[str]:
    """One row an encounter about which somebody has decided: its individual, empty where nobody can say or there is no
    animal, and who decided it last."""
    last: dict[Key, Decision] = {}
    for d in contents.decisions:
        if d.decision_id not in contents.catalogue.undone | contents.catalogue.void and d.instance_id is None:
            last |= dict.fromkeys(d.encounters, d)
    yield _line(COLUMNS)
    for e in contents.entries.values():
        by = last.get(e.key)
        if e.verdict is not None and by is not None:
            times = (f"{t:%Y-%m-%dT%H:%M:%S}" if t else "" for t in (e.taken_from, e.taken_to))
            yield _line((*e.key, e.sequence_id, e.place, *times, e.side, e.name, e.verdict, by.by,
                         f"{by.made_at:%Y-%m-%dT%H:%M:%SZ}"))  # fmt: skip


def _line(values: tuple[str | None, ...]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(v or "" for v in values)
    return buffer.getvalue()


Export = Callable[[Contents], Iterator[str]]
EXPORTS: dict[str, tuple[str, Export]] = {"identities.csv": ("text/csv; charset=utf-8", identities)}
