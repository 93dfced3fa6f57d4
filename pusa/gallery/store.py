"""The store of a gallery: LanceDB tables in a local folder or on object storage.

    about        key, value: format version, and the SHA-256 of the codebook and of the weights behind it
    individuals  one row a known animal
    encounters   one row an enrolled encounter, its Fisher vector in float16
    crops        the key points of some crops of each encounter, one row a crop

Vectors compare only under the codebook that made them, so a gallery belongs to one codebook for ever. Object storage
takes its credentials and endpoint from the environment, as LanceDB documents (AWS_ACCESS_KEY_ID, AWS_ENDPOINT, ...).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pusa.errors import UserError
from pusa.fisher.codebook import Codebook
from pusa.gallery.geometry import LENGTH, Features

FORMAT = "2"
NOT_NAMES = ("", "unknown", "na", "n/a", "nan", "none", "null")  # what tables write where nobody knows the animal

INDIVIDUALS = pa.schema({"individual": pa.string(), "enrolled_at": pa.timestamp("ms")})  # UTC


def encounters_schema(length: int) -> pa.Schema:
    """Columns of the encounters table for Fisher vectors of `length` numbers; the key is (run, encounter_id)."""
    return pa.schema(
        {
            "run": pa.string(),  # where it comes from: the URI of a run, or any name of a collection
            "encounter_id": pa.string(),
            "individual": pa.string(),  # null where nobody has said yet
            "sequence_id": pa.string(),
            "place": pa.string(),
            "taken_from": pa.timestamp("ms"),  # local times of the first and the last photo
            "taken_to": pa.timestamp("ms"),
            "side": pa.string(),
            "n_patches": pa.int32(),
            "fisher": pa.list_(pa.float16(), length),  # null where the encounter has no patch: kept, never found
            "thumbnail": pa.binary(),  # JPEG of one crop
        }
    )


CROPS = pa.schema(
    {
        "run": pa.string(),
        "encounter_id": pa.string(),
        "number": pa.int32(),  # of the crop in its encounter, from 0
        "side": pa.float32(),  # see `geometry.Features`
        "points": pa.list_(pa.float32()),  # x, y, x, y, ...
        "descriptors": pa.binary(),  # 128 bytes a point
    }
)


@dataclass(frozen=True)
class Vectors:
    """What a search needs of a gallery: its E encounters with a vector and a name, in order of their key."""

    runs: list[str]
    encounter_ids: list[str]
    individuals: list[str]
    fisher: np.ndarray  # (E, 2 K D) float16


class Gallery:
    """An open gallery; make one with `Gallery.create`, find one with `Gallery.open`."""

    def __init__(self, uri: str, database: lancedb.DBConnection) -> None:
        self.uri = uri
        self.individuals = database.open_table("individuals")
        self.encounters = database.open_table("encounters")
        self.crops = database.open_table("crops")
        about = database.open_table("about").to_arrow().to_pydict()
        self.about: dict[str, str] = dict(zip(about["key"], about["value"], strict=True))

    @staticmethod
    def exists(uri: str) -> bool:
        """Whether there is a gallery at `uri`."""
        if "://" not in uri and not Path(uri).is_dir():
            return False  # connecting would make the folder
        return "about" in _tables(_connect(uri), uri)

    @classmethod
    def create(cls, uri: str, codebook: Codebook) -> Gallery:
        """A new, empty gallery for the vectors of a saved codebook. Raises UserError where one is already there."""
        if not codebook.digest:
            raise ValueError("the codebook has no digest: save it and load it")
        if cls.exists(uri):
            raise UserError(f"{uri} is a gallery already. Enroll into it, or give another folder.")
        database = _connect(uri)
        about = {"format": FORMAT, "length": str(codebook.length), "codebook": codebook.digest, **codebook.made_with}
        try:
            database.create_table("individuals", schema=INDIVIDUALS, exist_ok=True)
            database.create_table("encounters", schema=encounters_schema(codebook.length), exist_ok=True)
            database.create_table("crops", schema=CROPS, exist_ok=True)
            # Last: a gallery whose making was cut short has no `about`, and is made anew.
            database.create_table("about", pa.table({"key": list(about), "value": list(about.values())}))
        except (OSError, RuntimeError, ValueError) as e:
            raise UserError(f"Cannot make a gallery at {uri}: {_first_line(e)}") from e
        return cls(uri, database)

    @classmethod
    def open(cls, uri: str, codebook: Codebook | None = None) -> Gallery:
        """An existing gallery. Raises UserError where there is none, or it belongs to another codebook."""
        if not cls.exists(uri):
            raise UserError(f"There is no gallery at {uri}. `pusa gallery enroll RUN --gallery {uri}` makes one.")
        database = _connect(uri)
        about = database.open_table("about").to_arrow().to_pydict()
        if (found := dict(zip(about["key"], about["value"], strict=True)).get("format")) != FORMAT:
            raise UserError(
                f"{uri} has the gallery format {found}; this version of Pusa reads {FORMAT}. "
                "Enroll its animals anew into another gallery."
            )
        gallery = cls(uri, database)
        if codebook is not None:
            gallery.check(codebook.digest)
        return gallery

    def check(self, codebook_digest: str) -> None:
        """Raises UserError unless the gallery's vectors were made with this codebook."""
        if codebook_digest != self.about["codebook"]:
            raise UserError(
                f"The gallery {self.uri} belongs to the codebook {self.about['codebook'][:12]}, these encounters to "
                f"{codebook_digest[:12]}: their vectors cannot be compared. Process the photos with the gallery's "
                "codebook, or enroll its animals anew into another gallery."
            )

    def enroll(self, rows: pa.Table, features: Mapping[str, Sequence[Features]] | None = None) -> int:
        """Adds encounters, or replaces those of the same (run, encounter_id), and returns how many rows that was.

        `rows` has columns of `encounters_schema`, at least run and encounter_id; `fisher` may be a list of any length
        type. `features`: key points of crops by encounter_id. Named individuals that are new are added. Raises
        UserError for a row without key, the same key twice, a name that is none ("unknown", "NA", ...), or a vector of
        another length; nothing is written then.
        """
        rows = self._checked(rows)
        if not len(rows):
            return 0
        names = pc.unique(rows["individual"]).drop_null()
        now = pa.array([datetime.now(UTC).replace(tzinfo=None)] * len(names), pa.timestamp("ms"))
        known = pa.table([names, now], schema=INDIVIDUALS)
        # Encounters last: cut short in between, the store holds an animal or crops too many, which hurts nobody.
        self.individuals.merge_insert("individual").when_not_matched_insert_all().execute(known)
        self._enroll_crops(rows, features or {})
        upsert = self.encounters.merge_insert(["run", "encounter_id"])
        # "null" admits the vectors that are null; without it LanceDB refuses them, as it refuses those with NaN.
        upsert.when_matched_update_all().when_not_matched_insert_all().execute(rows, on_bad_vectors="null")
        return len(rows)

    def _enroll_crops(self, rows: pa.Table, features: Mapping[str, Sequence[Features]]) -> None:
        """Adds the crops of encounters, in place of all that were there."""
        found = [
            {"run": run, "encounter_id": e, "number": n, "side": f.side, "points": f.points.ravel(),
             "descriptors": f.descriptors.tobytes()}
            for run, e in zip(rows["run"].to_pylist(), rows["encounter_id"].to_pylist(), strict=True)
            for n, f in enumerate(features.get(e, ()))
        ]  # fmt: skip
        for run in pc.unique(rows["run"]).to_pylist():
            ids = rows.filter(pc.equal(rows["run"], run))["encounter_id"].to_pylist()
            for start in range(0, len(ids), 500):  # a condition is parsed: not of any length
                some = ", ".join(map(_quoted, ids[start : start + 500]))
                self.crops.delete(f"run = {_quoted(run)} AND encounter_id IN ({some})")
        if found:
            self.crops.add(pa.Table.from_pylist(found, schema=CROPS))

    def features(self, keys: Sequence[tuple[str, str]]) -> list[list[Features]]:
        """Key points of the crops of encounters (run, encounter_id); 0.2 MB an encounter."""
        rows: dict[tuple[str, str], list[tuple[int, Features]]] = {}
        for row in self.crops.search().to_arrow().to_pylist():
            points = np.array(row["points"], np.float32).reshape(-1, 2)
            descriptors = np.frombuffer(row["descriptors"], np.uint8).reshape(-1, LENGTH)
            found = rows.setdefault((row["run"], row["encounter_id"]), [])
            found.append((row["number"], Features(points, descriptors, row["side"])))
        return [[f for _, f in sorted(rows.get(key, []), key=lambda pair: pair[0])] for key in keys]

    def _checked(self, rows: pa.Table) -> pa.Table:
        length = int(self.about["length"])
        schema = encounters_schema(length)
        foreign = sorted(set(rows.column_names) - set(schema.names))
        if foreign:
            raise ValueError(f"a gallery's encounters have no columns {foreign}")
        columns: dict[str, Any] = {name: rows[name].combine_chunks() for name in rows.column_names}
        keys = list(zip(columns["run"].to_pylist(), columns["encounter_id"].to_pylist(), strict=True))
        if any(not part for key in keys for part in key):
            raise UserError("An encounter to be enrolled has no run or no encounter_id.")
        twice = [key for key, n in Counter(keys).items() if n > 1]
        if twice:
            raise UserError(f"The encounter {twice[0][1]} of {twice[0][0]} is given twice. Enroll it once.")
        names = columns.get("individual", pa.nulls(len(rows), pa.string())).to_pylist()
        wrong = [name for name in names if name is not None and name.strip().lower() in NOT_NAMES]
        if wrong:
            raise UserError(
                f"{wrong[0]!r} is not the name of an individual. Leave the name out where the animal is not known."
            )
        if "fisher" in columns:
            columns["fisher"] = _fixed(columns["fisher"], length)
        arrays = [columns[f.name].cast(f.type) if f.name in columns else pa.nulls(len(rows), f.type) for f in schema]
        return pa.table(arrays, schema=schema)

    def vectors(self) -> Vectors:
        """All encounters that can be found, read into memory: 256 KB each at 131,072 numbers."""
        found = (
            self.encounters.search()
            .where("individual IS NOT NULL AND fisher IS NOT NULL")
            .select(["run", "encounter_id", "individual", "fisher"])
            .to_arrow()
        )
        # LanceDB returns rows in no promised order.
        order = pc.sort_indices(found, [("run", "ascending"), ("encounter_id", "ascending")])
        keys = found.select(["run", "encounter_id", "individual"]).take(order)
        fisher = np.empty((len(found), int(self.about["length"])), np.float16)
        position = np.argsort(order.to_numpy())
        begin = 0
        for chunk in found["fisher"].chunks:
            rows = chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1)
            fisher[position[begin : begin + len(chunk)]] = rows
            begin += len(chunk)
        return Vectors(
            keys["run"].to_pylist(), keys["encounter_id"].to_pylist(), keys["individual"].to_pylist(), fisher
        )

    def thumbnail(self, individual: str) -> bytes | None:
        """A JPEG of an individual, from its encounter with the most patches; None where it has no picture."""
        found = (
            self.encounters.search()
            .where(f"individual = {_quoted(individual)} AND thumbnail IS NOT NULL")
            .select(["run", "encounter_id", "n_patches", "thumbnail"])
            .to_arrow()
        )
        order = [("n_patches", "descending"), ("run", "ascending"), ("encounter_id", "ascending")]
        return found.sort_by(order)["thumbnail"][0].as_py() if len(found) else None

    def counts(self) -> dict[str, int]:
        """Individuals, encounters, and the encounters without a name or without a vector."""
        return {
            "individuals": self.individuals.count_rows(),
            "encounters": self.encounters.count_rows(),
            "without_name": self.encounters.count_rows("individual IS NULL"),
            "without_vector": self.encounters.count_rows("fisher IS NULL"),
        }


def _fixed(fisher: pa.Array, length: int) -> pa.Array:
    """Fisher vectors as fixed-size lists; null stays null. Raises UserError for another length or NaN."""
    lengths = pc.unique(pc.list_value_length(fisher)).drop_null().to_pylist()
    if lengths not in ([], [length]):
        raise UserError(
            f"Expected Fisher vectors of {length} numbers, got {lengths}: they were made with another codebook."
        )
    if not np.isfinite(fisher.flatten().to_numpy(zero_copy_only=False)).all():
        raise UserError("A Fisher vector holds NaN or infinity: process its photos again, and report it if it stays.")
    return fisher.cast(pa.list_(pa.float16(), length))


def _quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _connect(uri: str) -> lancedb.DBConnection:
    try:
        return lancedb.connect(uri)
    except (OSError, RuntimeError, ValueError) as e:
        raise UserError(f"Cannot open the gallery {uri}: {_first_line(e)}") from e


def _tables(database: lancedb.DBConnection, uri: str) -> list[str]:
    try:
        return list(database.list_tables().tables)
    except (OSError, RuntimeError, ValueError) as e:
        raise UserError(f"Cannot open the gallery {uri}: {_first_line(e)}") from e


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].split(", /")[0]
