"""What the deployments do, without Ray: lists of requests in, lists of answers out, by the stage classes of a run."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pusa import records
from pusa.encounters import EncounterBuilder
from pusa.errors import UserError
from pusa.gallery.candidate_set import CandidateSet
from pusa.gallery.crops import Reader
from pusa.gallery.geometry import Features, Match
from pusa.gallery.index import Index, Query
from pusa.gallery.journal import Key
from pusa.gallery.snapshot import versions
from pusa.gallery.store import Gallery
from pusa.gallery.verify import spread
from serving.settings import ServingConfig

PATIENCE = 2.0  # s that a question waits for what was decided a moment ago; beyond, it is answered from before


@dataclass(frozen=True)
class Pair:
    """The crops of a query and of an individual that match best, and where."""

    first: Features
    second: Features
    match: Match


@dataclass(frozen=True)
class Answer:
    """`candidates`: the most probable first, rows of `records.CANDIDATES` with `run` and `nearest`, the key of the
    encounter that stands for the individual. `version`: of the gallery that was asked; `searched`: how many of its
    encounters are in the candidate set."""

    candidates: list[dict[str, Any]]
    version: str
    searched: int


@dataclass(frozen=True)
class Encoded:
    """The encounters of whole sequences (`records.ENCOUNTERS`), and the points of their crops that are compared."""

    encounters: pa.Table
    crops: dict[str, list[Features]]


class Detecting:
    """Photos become photos with instances."""

    def __init__(self, config: ServingConfig) -> None:
        stage, arguments = config.stages.detector()
        self.stage = stage(**arguments, threads=config.threads)

    def __call__(self, photos: list[tuple[pa.Table, bytes]]) -> list[pa.Table]:
        """Rows of `records.PHOTOS`, each a table of one, with the photo's file."""
        return _rows(self.stage(pa.concat_tables([row for row, _ in photos]), [content for _, content in photos]))


class Describing:
    """Instances get descriptor, pattern and embeddings."""

    def __init__(self, config: ServingConfig) -> None:
        self.stages = [stage(**arguments, threads=config.threads) for stage, arguments in config.stages.describers()]

    def __call__(self, photos: list[pa.Table]) -> list[pa.Table]:
        table = pa.concat_tables(photos)
        for stage in self.stages:
            table = stage(table)
        return _rows(table)


class Identifying:
    """Encounters become Fisher vectors, and are held against the gallery as it is now.

    What others write to the gallery is seen: it is read anew when its version has changed. One that takes longer than
    PATIENCE to read is read in the background, and questions meanwhile are answered from before.
    """

    def __init__(self, config: ServingConfig) -> None:
        self.config = config
        self.builder = EncounterBuilder(config.stages.encounters, threads=config.threads)
        assert self.builder.codebook is not None
        self.codebook = self.builder.codebook
        self.gallery = Gallery.open(config.gallery, self.codebook)
        geometry = self.gallery.verifying(config.verification).geometry
        used = {"config": config.stages.model_dump(), "weights": config.stages.digests(given=True)}
        self.read, self.pool = Reader(used, geometry, self.codebook), ThreadPoolExecutor()
        self._reading = threading.Lock()
        self._asking = threading.Lock()  # an index is not for several threads
        self._held: tuple[str, Index] | None = None
        self._read()

    def encode(self, photos: pa.Table) -> Encoded:
        """The encounters of whole sequences of described photos."""
        encounters = self.builder(photos)
        instances = {i["instance_id"]: i for row in records.instances(photos) for i in row}
        crops = {}
        for row in encounters.select(["encounter_id", "instance_ids", "n_patches"]).to_pylist():
            chosen = spread(row["instance_ids"], self.config.verification.crops) if row["n_patches"] else []
            crops[row["encounter_id"]] = self.read([instances[i] for i in chosen], self.pool)
        return Encoded(encounters, crops)

    def __call__(self, questions: list[tuple[Query, CandidateSet]]) -> list[Answer]:
        """Who are they, each of a candidate set?"""
        version, index = self.current()
        asked: dict[CandidateSet, dict[Key, Query]] = {}  # the same one twice is asked once
        for query, those in questions:
            asked.setdefault(those, {})[query.key] = query
        with self._asking:
            found = {those: self._of_set(index, some, those) for those, some in asked.items()}
        searched = {those: _searched(index, those) for those in asked}
        return [Answer(found[those][query.key], version, searched[those]) for query, those in questions]

    def _of_set(self, index: Index, asked: dict[Key, Query], among: CandidateSet) -> dict[Key, list[dict[str, Any]]]:
        """Candidates by query; none where nobody is in the set any more."""
        rows: dict[Key, list[dict[str, Any]]] = {key: [] for key in asked}
        if not _searched(index, among):
            return rows
        ranking = index.ask(list(asked.values()), among, self.config.top, self.config.new_share)
        keys, last = list(asked), None
        place = -1
        for row, nearest in zip(ranking.candidates.to_pylist(), ranking.nearest, strict=True):
            # Candidates of one query follow one another, from rank 1; two runs may have encounters of one name.
            if row["rank"] == 1:
                place = next(i for i in range(place + 1, len(keys)) if keys[i][1] == row["encounter_id"])
                last = keys[place]
            run, encounter_id = index.vectors.runs[nearest], index.vectors.encounter_ids[nearest]
            rows[last].append(row | {"run": run, "nearest": encounter_id})  # type: ignore[index]
        return rows

    def pair(self, query: Query, nearest: Key) -> Pair | None:
        """The best pair of a query's crops and those of an encounter of the gallery; None where no points match."""
        index = self.current()[1]
        place = index.vectors.places.get(nearest)
        if place is None or not query.crops or index.verifier is None:
            return None
        with self._asking:
            found = Pair(*index.verifier.best_pair(query.crops, place))
        return found if found.match.inliers else None

    def version(self) -> str:
        """The version of the gallery that questions are answered from."""
        return self.current()[0]

    def current(self) -> tuple[str, Index]:
        """The gallery as it is, or as it was a moment ago; and which of its versions that is."""
        assert self._held is not None
        if self._held[0] != version_of(self.gallery) and not self._reading.locked():
            reader = threading.Thread(target=self._read, daemon=True)
            reader.start()
            reader.join(PATIENCE)
        return self._held

    def _read(self) -> None:
        with self._reading:
            version = version_of(self.gallery)  # before it is read: what comes in between is read again
            gallery = Gallery.open(self.config.gallery)  # with a calibration that was fitted meanwhile
            self._held = version, Index(gallery, self.config.verification)


def _searched(index: Index, among: CandidateSet) -> int:
    """How many encounters are in a candidate set."""
    try:
        return int(among.members(index.vectors.about).sum())
    except UserError:  # since the request was checked, a decision was taken back
        return 0


def version_of(gallery: Gallery) -> str:
    """Changes with everything that is enrolled or decided."""
    return ".".join(map(str, versions(gallery)))


def _rows(table: pa.Table) -> list[pa.Table]:
    return [table.slice(i, 1) for i in range(len(table))]
