"""What the deployments do, without Ray: lists of requests in, lists of answers out, by the stage classes of a run."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from pusa import records
from pusa.encounters import EncounterBuilder
from pusa.gallery import geometry
from pusa.gallery.crops import patches_of
from pusa.gallery.geometry import Features
from pusa.gallery.identifier import Identifier, Pair
from pusa.gallery.journal import Key
from pusa.gallery.store import Gallery
from pusa.gallery.verify import spread
from serving.settings import ServingConfig

PATIENCE = 2.0  # s that a question waits for what was decided a moment ago; beyond, it is answered from before


@dataclass(frozen=True)
class Query:
    """An encounter to be identified: its key, Fisher vector (L,), number of patches, and the points of its crops."""

    run: str
    encounter_id: str
    fisher: np.ndarray
    n_patches: int
    crops: list[Features]


@dataclass(frozen=True)
class Answer:
    """`candidates`: the most probable first, rows of `records.CANDIDATES` with `run` and `nearest`, the key of the
    encounter that stands for the individual. `version`: of the gallery that was asked."""

    candidates: list[dict[str, Any]]
    version: str


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
        self._reading = threading.Lock()
        self._held: tuple[str, Identifier] | None = None
        self._read()

    def encode(self, photos: pa.Table) -> Encoded:
        """The encounters of whole sequences of described photos."""
        encounters = self.builder(photos)
        instances = {i["instance_id"]: i for row in records.instances(photos) for i in row}
        crops = {}
        for row in encounters.select(["encounter_id", "instance_ids", "n_patches"]).to_pylist():
            chosen = spread(row["instance_ids"], self.config.verification.crops) if row["n_patches"] else []
            crops[row["encounter_id"]] = [self._features(instances[i]) for i in chosen]
        return Encoded(encounters, crops)

    def __call__(self, queries: list[Query]) -> list[Answer]:
        """Who are they? Queries of one run are held against the gallery together."""
        version, identifier = self.current()
        answers: dict[Key, Answer] = {}
        order = sorted(range(len(queries)), key=lambda i: queries[i].run)
        for run, members in groupby(order, key=lambda i: queries[i].run):
            places = {queries[i].encounter_id: i for i in members}  # the same one twice is asked once
            asked = [queries[i] for i in places.values()]
            ranking = identifier(
                run,
                [q.encounter_id for q in asked],
                np.stack([q.fisher for q in asked]),
                np.array([q.n_patches for q in asked]),
                [q.crops for q in asked],
                self.config.top,
                self.config.new_share,
            )
            rows: dict[str, list[dict[str, Any]]] = {}
            for row, nearest in zip(ranking.candidates.to_pylist(), ranking.nearest, strict=True):
                vectors = identifier.vectors
                more = {"run": vectors.runs[nearest], "nearest": vectors.encounter_ids[nearest]}
                rows.setdefault(row["encounter_id"], []).append(row | more)
            answers |= {(run, e): Answer(rows.get(e, []), version) for e in places}
        return [answers[q.run, q.encounter_id] for q in queries]

    def pair(self, query: Query, nearest: Key) -> Pair | None:
        """The best pair of a query's crops and those of an encounter of the gallery; None where no points match."""
        identifier = self.current()[1]
        keys = list(zip(identifier.vectors.runs, identifier.vectors.encounter_ids, strict=True))
        if nearest not in keys or not query.crops:
            return None
        found = identifier.best_pair(query.crops, keys.index(nearest))
        return found if found.match.inliers else None

    def version(self) -> str:
        """The version of the gallery that questions are answered from."""
        return self.current()[0]

    def current(self) -> tuple[str, Identifier]:
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
            self._held = version, Identifier(gallery, self.config.verification)

    def _features(self, instance: dict[str, Any]) -> Features:
        points = patches_of(instance["patch_boxes"], instance["embeddings"], self.codebook)
        return geometry.features(instance, self.config.verification.geometry, points)


def version_of(gallery: Gallery) -> str:
    """Changes with everything that is enrolled or decided."""
    return f"{gallery.encounters.version}.{gallery.journal.version}"


def _rows(table: pa.Table) -> list[pa.Table]:
    return [table.slice(i, 1) for i in range(len(table))]
