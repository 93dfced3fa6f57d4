"""The store of a gallery: LanceDB tables in a local folder or on object storage.

    about        key, value: format version; the SHA-256 of the codebook, of the weights behind it, and of those that
                 describe key points, with their name
    encounters   one row an enrolled encounter: its Fisher vector in float16, a compact code of it, and of some crops
                 the points that are compared
    decisions    the journal: which animal an encounter is follows from it, and is written nowhere else

Vectors compare only under the codebook that made them, so a gallery belongs to one codebook for ever. Object storage
takes its credentials and endpoint from the environment, as LanceDB documents (AWS_ACCESS_KEY_ID, AWS_ENDPOINT, ...).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa

from pusa import weights
from pusa.errors import UserError
from pusa.fisher.codebook import Codebook
from pusa.gallery import journal, tables
from pusa.gallery.calibration import Calibration
from pusa.gallery.geometry import Features
from pusa.gallery.journal import Catalogue, Decision, Key
from pusa.gallery.lance import LARGE_PIECES, compact, conditions, connect, first_line, retried, tables_of
from pusa.gallery.search import Vectors
from pusa.gallery.snapshot import Snapshot
from pusa.gallery.verify import VerifyConfig
from pusa.keypoints import MARKS

FORMAT = "6"


class Gallery:
    """An open gallery; make one with `Gallery.create`, find one with `Gallery.open`."""

    def __init__(self, uri: str, database: lancedb.DBConnection) -> None:
        self.uri = uri
        self.encounters = database.open_table("encounters")
        self.journal = database.open_table("decisions")
        self._about = database.open_table("about")
        about = self._about.to_arrow().to_pydict()
        self.about: dict[str, str] = dict(zip(about["key"], about["value"], strict=True))

    @staticmethod
    def exists(uri: str) -> bool:
        """Whether there is a gallery at `uri`."""
        if "://" not in uri and not Path(uri).is_dir():
            return False  # connecting would make the folder
        return "about" in tables_of(connect(uri), uri)

    @classmethod
    def create(cls, uri: str, codebook: Codebook, marks: str = MARKS) -> Gallery:
        """A new, empty gallery for the vectors of a saved codebook, and key points as the weights `marks` describe
        them. Raises UserError where one is already there."""
        if not codebook.digest:
            raise ValueError("the codebook has no digest: save it and load it")
        if cls.exists(uri):
            raise UserError(f"{uri} is a gallery already. Enroll into it, or give another folder.")
        database = connect(uri)
        about = {"format": FORMAT, "length": str(codebook.length), "codebook": codebook.digest, **codebook.made_with,
                 "marks": weights.digest(weights.find(marks)), "marks_from": weights.absolute(marks)}  # fmt: skip
        try:
            database.create_table("encounters", schema=tables.encounters(codebook.length), exist_ok=True)
            database.create_table("decisions", schema=tables.DECISIONS, exist_ok=True)
            # Last: a gallery whose making was cut short has no `about`, and is made anew.
            database.create_table("about", pa.table({"key": list(about), "value": list(about.values())}))
        except (OSError, RuntimeError, ValueError) as e:
            raise UserError(f"Cannot make a gallery at {uri}: {first_line(e)}") from e
        return cls(uri, database)

    @classmethod
    def open(cls, uri: str, codebook: Codebook | None = None) -> Gallery:
        """An existing gallery. Raises UserError where there is none, or it belongs to another codebook."""
        if not cls.exists(uri):
            raise UserError(f"There is no gallery at {uri}. `pusa gallery enroll RUN --gallery {uri}` makes one.")
        database = connect(uri)
        about = database.open_table("about").to_arrow().to_pydict()
        if (found := dict(zip(about["key"], about["value"], strict=True)).get("format")) != FORMAT:
            raise UserError(
                f"{uri} has the gallery format {found}; this version of Pusa reads {FORMAT}. "
                "Enroll its animals anew into another gallery."
            )
        gallery = cls(uri, database)
        if (now := weights.digest(weights.find(gallery.marks))) != gallery.about["marks"]:
            raise UserError(
                f"The key points in {uri} were described by other weights ({gallery.about['marks'][:12]}) than "
                f"{gallery.marks} is now ({now[:12]}). Put the old file back, or enroll its animals anew into another "
                "gallery."
            )
        if codebook is not None:
            gallery.check(codebook.digest)
        return gallery

    @property
    def marks(self) -> str:
        """The weights that describe key points here: a name or a path."""
        return self.about["marks_from"]

    def verifying(self, config: VerifyConfig) -> VerifyConfig:
        """The settings with key points described as they are here: others cannot be compared with them."""
        return config.model_copy(update={"geometry": config.geometry.model_copy(update={"marks": self.marks})})

    def check(self, codebook_digest: str) -> None:
        """Raises UserError unless the gallery's vectors were made with this codebook."""
        if codebook_digest != self.about["codebook"]:
            raise UserError(
                f"The gallery {self.uri} belongs to the codebook {self.about['codebook'][:12]}, these encounters to "
                f"{codebook_digest[:12]}: their vectors cannot be compared. Process the photos with the gallery's "
                "codebook, or enroll its animals anew into another gallery."
            )

    def enroll(self, rows: pa.Table, features: Mapping[str, Mapping[str, Features]] | None = None) -> int:
        """Adds encounters, or replaces those of the same (run, encounter_id), and returns how many rows that was.

        `rows` has columns of `tables.encounters`, at least run and encounter_id, and `individual`, null where nobody
        has said yet; `fisher` may be a list of any length type. `features`: points of crops by encounter_id and
        instance_id. A name that differs from what is decided is a new decision. Raises UserError for a row without
        key, the same key twice, a name that is none ("unknown", "NA", ...), or a vector of another length; nothing is
        written then.
        """
        names, rows = self._checked(rows)
        if not len(rows):
            return 0
        decisions = journal.naming(names, self.decisions())
        if features is not None:
            crops = [tables.crop_list(features.get(e, {})) for e in rows["encounter_id"].to_pylist()]
            field = rows.schema.field("crops")
            rows = rows.set_column(rows.schema.get_field_index("crops"), field, pa.array(crops, field.type))
        upsert = self.encounters.merge_insert(["run", "encounter_id"])
        upsert.when_matched_update_all().when_not_matched_insert_all()
        # Decisions last: cut short in between, the store holds encounters that nobody has named yet, which is true.
        # "null" admits the vectors that are null; without it LanceDB refuses them, as it refuses those with NaN.
        retried(lambda: upsert.execute(rows, on_bad_vectors="null"))
        compact(self.encounters, LARGE_PIECES)
        self._append(decisions)
        return len(rows)

    def copy_journal(self, other: Gallery) -> None:
        """Adds the journal of another gallery, whose encounters are enrolled here."""
        for batch in other.journal.search().to_batches():
            retried(lambda batch=batch: self.journal.add(pa.Table.from_batches([batch])))  # type: ignore[misc]

    def decide(self, *decisions: Decision) -> list[Decision]:
        """Adds decisions to the journal, and returns them as they were written; one that is there already (same id)
        is passed over.

        Raises UserError for one that has no effect (`journal.checked`), and for an encounter that the gallery does not
        have; nothing is written then. Of two processes that decide at once what cannot both be, the second one's
        decision counts for nothing, and it is told so.
        """
        wanted = {key for d in decisions for key in d.encounters}
        if missing := wanted - self.known(wanted):
            run, encounter_id = min(missing)
            raise UserError(f"The gallery {self.uri} has no encounter {encounter_id} of {run}. Enroll it first.")
        fresh = journal.checked(self.decisions(), decisions)
        self._append(fresh)
        void = self.catalogue().void if fresh else {}
        if lost := [void[d.decision_id] for d in fresh if d.decision_id in void]:
            raise UserError(f"Somebody else was faster: {lost[0]}")
        return fresh

    def _append(self, decisions: Sequence[Decision]) -> None:
        if decisions:
            rows = tables.decision_rows(decisions)
            retried(lambda: self.journal.add(rows))
            compact(self.journal)

    def decisions(self) -> list[Decision]:
        """The journal, in order."""
        found = tables.decisions_of(self.journal.search().to_arrow())
        return sorted(found, key=lambda d: (d.number, d.made_at, d.decision_id))

    def catalogue(self) -> Catalogue:
        """Which animal each encounter is, and all else that follows from the journal."""
        return journal.catalogue(self.decisions())

    def keep_calibration(self, calibration: Calibration) -> None:
        """Writes a calibration, in place of an earlier one."""
        self.about["calibration"] = calibration.model_dump_json()
        row = pa.table({"key": ["calibration"], "value": [self.about["calibration"]]}, schema=tables.ABOUT)
        upsert = self._about.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
        retried(lambda: upsert.execute(row))

    @property
    def calibration(self) -> Calibration | None:
        """The calibration that was fitted to this gallery, if one was."""
        kept = self.about.get("calibration")
        return Calibration.model_validate_json(kept) if kept else None

    def keys(self, encounter_ids: Sequence[str], run: str | None = None) -> list[Key]:
        """The keys of encounters, of `run` or of whichever one run has them. Raises UserError where none has, or
        several have."""
        columns = self.encounters.search().select(["run", "encounter_id"]).to_arrow()
        runs: dict[str, list[str]] = {}
        for r, e in zip(columns["run"].to_pylist(), columns["encounter_id"].to_pylist(), strict=True):
            if run in (None, r):
                runs.setdefault(e, []).append(r)
        for e in encounter_ids:
            if not (found := runs.get(e, [])):
                raise UserError(f"The gallery {self.uri} has no encounter {e}. Enroll it first.")
            if len(found) > 1:
                raise UserError(f"Several runs have an encounter {e}: {', '.join(sorted(found))}. Say which (--run).")
        return [(runs[e][0], e) for e in encounter_ids]

    def known(self, keys: Iterable[Key]) -> set[Key]:
        """Those of the encounters (run, encounter_id) that are enrolled."""
        found: set[Key] = set()
        for condition in conditions(list(keys)):
            rows = self.encounters.search().where(condition).select(["run", "encounter_id"]).to_arrow()
            found |= set(zip(rows["run"].to_pylist(), rows["encounter_id"].to_pylist(), strict=True))
        return found

    def crops(self, keys: Sequence[Key]) -> list[list[dict[str, Any]]]:
        """The crops of encounters (run, encounter_id), those that were taken out of them, too (`tables.CROP`)."""
        found: dict[Key, list[dict[str, Any]]] = {}
        for condition in conditions(keys):
            rows = self.encounters.search().where(condition).select(["run", "encounter_id", "crops"]).to_arrow()
            mine = zip(rows["run"].to_pylist(), rows["encounter_id"].to_pylist(), strict=True)
            found |= zip(mine, rows["crops"].to_pylist(), strict=True)
        return [found.get(key) or [] for key in keys]

    def features(self, keys: Sequence[Key]) -> list[list[Features]]:
        """Points of the crops of encounters (run, encounter_id) less those that were taken out of them; 0.5 MB an
        encounter."""
        out = self.catalogue().crops
        return [tables.features_of(c, out.get(key, ())) for key, c in zip(keys, self.crops(keys), strict=True)]

    def _checked(self, rows: pa.Table) -> tuple[dict[Key, str], pa.Table]:
        """Names by key, and rows of `tables.encounters`."""
        length = int(self.about["length"])
        schema = tables.encounters(length)
        foreign = sorted(set(rows.column_names) - {*schema.names, "individual"})
        if foreign:
            raise ValueError(f"a gallery's encounters have no columns {foreign}")
        columns: dict[str, Any] = {name: rows[name].combine_chunks() for name in rows.column_names}
        keys = list(zip(columns["run"].to_pylist(), columns["encounter_id"].to_pylist(), strict=True))
        if any(not part for key in keys for part in key):
            raise UserError("An encounter to be enrolled has no run or no encounter_id.")
        twice = [key for key, n in Counter(keys).items() if n > 1]
        if twice:
            raise UserError(f"The encounter {twice[0][1]} of {twice[0][0]} is given twice. Enroll it once.")
        given = columns.pop("individual", pa.nulls(len(rows), pa.string())).to_pylist()
        names = {key: name for key, name in zip(keys, given, strict=True) if name is not None}
        if "fisher" in columns:
            columns["fisher"] = tables.fixed(columns["fisher"], length)
            columns["code"] = tables.code_column(columns["fisher"])
        arrays = [columns[f.name].cast(f.type) if f.name in columns else pa.nulls(len(rows), f.type) for f in schema]
        return names, pa.table(arrays, schema=schema)

    def vectors(self) -> Vectors:
        """All named encounters that can be found, read into memory: 128 KB each at 65,536 numbers."""
        return Snapshot(self).exact()

    def thumbnail(self, individual: str) -> bytes | None:
        """A JPEG of an individual, from its encounter with the most patches; None where it has no picture."""
        mine = [key for key, name in self.catalogue().names.items() if name == individual]
        columns = ["run", "encounter_id", "n_patches", "thumbnail"]
        found = [
            row
            for condition in conditions(mine)
            for row in self.encounters.search().where(condition).select(columns).to_arrow().to_pylist()
            if row["thumbnail"] is not None
        ]
        found.sort(key=lambda row: (-(row["n_patches"] or 0), row["run"], row["encounter_id"]))
        return found[0]["thumbnail"] if found else None

    def counts(self) -> dict[str, int]:
        """Individuals, encounters, and the encounters without a name or without a vector."""
        names, encounters = self.catalogue().names, self.encounters.count_rows()
        return {
            "individuals": len(set(names.values())),
            "encounters": encounters,
            "without_name": encounters - len(names),
            "without_vector": self.encounters.count_rows("fisher IS NULL"),
        }
