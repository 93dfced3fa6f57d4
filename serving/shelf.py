"""The gallery as pages and programs read it: kept in memory, and read again when its version has changed."""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
from dataclasses import dataclass, field

from pusa.gallery import tables
from pusa.gallery.index import Query
from pusa.gallery.journal import Catalogue, Decision, Key, catalogue
from pusa.gallery.lance import conditions
from pusa.gallery.store import Gallery
from serving.jobs import token_of
from serving.problems import Problem
from serving.workers import version_of

COLUMNS = ("run", "encounter_id", "sequence_id", "place", "taken_from", "taken_to", "side", "n_patches")


@dataclass(frozen=True)
class Entry:
    """An enrolled encounter: `name` of its individual, and what was last decided about it, None where nothing was."""

    token: str
    key: Key
    sequence_id: str | None
    place: str | None
    taken_from: dt.datetime | None
    taken_to: dt.datetime | None
    side: str | None
    n_patches: int
    name: str | None
    verdict: str | None


@dataclass(frozen=True)
class Contents:
    """All that is enrolled and decided: `entries` by token, `individuals` by name, `named` names by their token."""

    version: str
    decisions: list[Decision]
    catalogue: Catalogue
    entries: dict[str, Entry]
    individuals: dict[str, list[Entry]]
    named: dict[str, str] = field(default_factory=dict)

    def undecided(self) -> list[Entry]:
        """Encounters about which nobody has decided."""
        return [e for e in self.entries.values() if e.verdict is None]

    def entry(self, token: str) -> Entry:
        """Raises Problem where no encounter has this token."""
        if token not in self.entries:
            raise Problem(404, "No such encounter", "It is not in the gallery, or not any more.")
        return self.entries[token]

    def individual(self, token: str) -> str:
        """The name of an individual. Raises Problem where none has this token."""
        if token not in self.named:
            raise Problem(404, "No such individual", "It may have been merged: look for it in the list.")
        return self.named[token]


def name_token(name: str) -> str:
    """Names an individual in addresses: a name may be any text."""
    return hashlib.blake2b(name.encode(), digest_size=10).hexdigest()


class Shelf:
    """An open gallery."""

    def __init__(self, uri: str) -> None:
        self.gallery = Gallery.open(uri)
        self._lock = threading.Lock()
        self._contents: Contents | None = None

    def contents(self) -> Contents:
        """What is in it now."""
        version = version_of(self.gallery)
        with self._lock:
            if self._contents is None or self._contents.version != version:
                self._contents = self._read(version)
            return self._contents

    def _read(self, version: str) -> Contents:
        decisions = self.gallery.decisions()
        found = catalogue(decisions)
        entries: dict[str, Entry] = {}
        individuals: dict[str, list[Entry]] = {}
        rows = self.gallery.encounters.search().select(list(COLUMNS)).to_arrow().to_pylist()
        for row in sorted(rows, key=lambda r: (r["taken_from"] or dt.datetime.max, r["run"], r["encounter_id"])):
            key = (row.pop("run"), row.pop("encounter_id"))
            row["n_patches"] = row["n_patches"] or 0
            name, verdict = found.names.get(key), found.verdicts.get(key)
            entry = Entry(token_of(key), key, **row, name=name, verdict=verdict)
            entries[entry.token] = entry
            if name is not None:
                individuals.setdefault(name, []).append(entry)
        individuals = dict(sorted(individuals.items(), key=lambda item: _natural(item[0])))
        return Contents(version, decisions, found, entries, individuals, {name_token(n): n for n in individuals})

    def query(self, key: Key) -> Query | None:
        """An enrolled encounter as a question; None where it has no vector."""
        (condition,) = conditions([key])
        row = self.gallery.encounters.search().where(condition).select(["fisher", "n_patches", "crops"]).to_arrow()
        if not len(row) or not row["fisher"][0].is_valid:
            return None
        fisher = row["fisher"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        out = self.contents().catalogue.crops.get(key, ())  # the gallery itself would read its whole journal
        crops = tables.features_of(row["crops"][0].as_py(), out)
        return Query(key, fisher, row["n_patches"][0].as_py() or 0, crops)

    def thumbnail(self, key: Key) -> bytes | None:
        """A JPEG of an encounter."""
        (condition,) = conditions([key])
        rows = self.gallery.encounters.search().where(condition).select(["thumbnail"]).to_arrow()
        return rows["thumbnail"][0].as_py() if len(rows) else None


def _natural(name: str) -> tuple[object, ...]:
    """Order of names: S2 before S10."""
    digits = "".join(c if c.isdigit() else " " for c in name).split()
    return ("".join(c for c in name if not c.isdigit()).casefold(), *map(int, digits), name)
