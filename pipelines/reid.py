"""Table 3 of the paper on a run: our identification and its baselines on the same photos, by image and by encounter."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pusa import exchange, records, reid, truth
from pusa.embedding.network import DIMENSIONS
from pusa.errors import UserError
from pusa.fisher import aggregate
from pusa.fisher.codebook import Codebook, CodebookConfig, InMemory, fit
from pusa.fisher.encode import fisher_vectors
from pusa.gallery import search, verify
from pusa.gallery.crops import features
from pusa.gallery.geometry import SIFT, Features, GeometryConfig, unit
from pusa.gallery.verify import Verifier, VerifyConfig
from pusa.listing import normal_path
from pusa.records import Run
from pusa.reid import Group, Instances, Method, Result

Report = Callable[[str], None]
ROOT_SIFT = CodebookConfig(dimensions=64, components=256)  # of RootSIFT's Fisher vectors (peers in the field)


@dataclass(frozen=True)
class Animals:
    """The known animals of a run: what `reid` needs, and of each its id, patch embeddings (T, C) and descriptor."""

    instances: Instances
    ids: list[str]
    embeddings: list[np.ndarray]
    descriptors: np.ndarray
    queries: int  # known animals in the photos of the queries, found or not


@dataclass(frozen=True)
class Row:
    """A line of the table: images with or without grouping; one database image or all of an individual together."""

    method: str
    grouping: bool
    grouped_gallery: bool
    by_image: Result
    by_encounter: Result


def seen_by_people(truth_file: str, least: float) -> set[str]:
    """Ids of a drawn archive's animals that count where a person is to see the rings: all of the database, and those of
    an animal's sequence whose `ring_clarity` is `least` or more in one of its pictures and in one of the database that
    shows the same flank. Raises UserError for a file that does not tell."""
    file = json.loads(Path(truth_file).read_text())
    database = {i["id"] for i in file["images"] if i.get("split") == "database"}
    animals = file["annotations"]
    if not all("ring_clarity" in a for a in animals):
        raise UserError(f"{truth_file} does not say how clear rings are: only the truth of `pusa synth` does.")
    clear = [a for a in animals if a["ring_clarity"] >= least]
    flanks = {(a["identity"], a["side"]) for a in clear if a["image_id"] in database}
    groups = {(a["sequence_id"], a["identity"]) for a in clear if (a["identity"], a["side"]) in flanks}
    return {str(a["id"]) for a in animals
            if a["image_id"] in database or (a["sequence_id"], a["identity"]) in groups}  # fmt: skip


def read(run: Run, truth_file: str, clear: float = 0) -> Animals:
    """The instances of a run that are true animals with a name; copies of photos (`duplicate_of`) take no part.

    Images of the COCO file with `split` = "database" are the database. `clear`: only queries that are so clear, see
    `seen_by_people`. Raises UserError where the file has a database, but no animal of it was found.
    """
    kept = seen_by_people(truth_file, clear) if clear else None
    identities = truth.identities(
        {i: g for i, g in truth.true_animals(run, truth_file).items() if kept is None or g.id in kept}
    )
    images = json.loads(Path(truth_file).read_text())["images"]
    database = {normal_path(i["file_name"]) for i in images if i.get("split") == "database"}
    encounters = run.read("encounters", ["encounter_id", "instance_ids"]).to_pydict()
    owner = {m: e for e, members in zip(*encounters.values(), strict=True) for m in members}
    rows: list[tuple[str, str, str, str, bool, np.ndarray, np.ndarray]] = []
    children = [f"instances.list.element.{name}" for name in ("instance_id", "embeddings", "descriptor")]
    for batch in run.batches("photos", ["path", "sequence_id", *children]):
        paths, sequences = batch["path"].to_pylist(), batch["sequence_id"].to_pylist()
        for path, sequence, nested in zip(paths, sequences, records.instances(batch), strict=True):
            for i in nested:
                if i["instance_id"] not in identities or i["instance_id"] not in owner:
                    continue
                x = np.zeros(0, np.float16) if i["embeddings"] is None else i["embeddings"]
                rows.append(
                    (i["instance_id"], owner[i["instance_id"]], sequence, identities[i["instance_id"]],
                     normal_path(path) in database, x.reshape(-1, DIMENSIONS), i["descriptor"])
                )  # fmt: skip
    rows.sort(key=lambda row: row[0])
    if database and not any(row[4] for row in rows):
        raise UserError(f"No animal of the database images of {truth_file} was found in {run.uri}.")
    ids, encounter, sequence, individual, is_database, embeddings, descriptors = zip(*rows, strict=True)
    instances = Instances(*(np.array(c) for c in (encounter, sequence, individual, is_database)))
    known = exchange.read_instances(truth_file).items()
    animals = sum(
        g.identity is not None and (kept is None or g.id in kept)
        for path, given in known if path not in database for g in given
    )  # fmt: skip
    return Animals(instances, list(ids), list(embeddings), np.array(descriptors, np.float32), animals)


def evaluate_reid(
    run: Run,
    truth_file: str,
    codebook: str | None = None,
    only: str = "",
    report: Report = lambda name: None,
    clear: float = 0,
) -> tuple[Animals, list[Row]]:
    """The table of a finished run: every method whose name has the word `only`, with and without grouping.

    `codebook`: in place of the run's. `report` is told each method before it begins. `clear`: see `seen_by_people`.
    """
    manifest = run.finished_manifest()
    name = codebook or manifest["config"]["encounters"]["codebook"]
    if not name:
        raise UserError(f"{run.uri} was processed without a codebook: give one as --codebook FILE.")
    book = Codebook.load(name)
    book.check(manifest["weights"])
    animals = read(run, truth_file, clear)
    shown = animals.instances
    if shown.database.any() and not np.isin(shown.individual[~shown.database], shown.individual[shown.database]).any():
        raise UserError(f"No query of {run.uri} shows an individual of the database: there is nothing to measure.")
    every = methods(run, animals, book)
    chosen = {name: make for name, make in every.items() if only in name}
    if not chosen:
        raise UserError(f"No method has {only!r} in its name; there are: {', '.join(every)}.")
    rows = []
    for name, make in chosen.items():
        report(name)
        method = make()
        for grouping, grouped_gallery in ((False, False), (True, False), (True, True)):
            found = reid.rank(animals.instances, method, grouping, grouped_gallery)
            results = found.by_image(animals.instances), found.by_group(animals.instances)
            rows.append(Row(name, grouping, grouped_gallery, *results))
    return animals, rows


def methods(run: Run, animals: Animals, book: Codebook) -> dict[str, Callable[[], Method]]:
    """Ways to compare groups, by name; each is made when it is called for. Key points are described as the run's."""
    usual = VerifyConfig.of_run(run.manifest())

    def encoded(encode: Callable[[Codebook, Sequence[np.ndarray]], np.ndarray]) -> Method:
        return of_patches(animals, functools.partial(encode, book))

    def descriptors(groups: Sequence[Group]) -> np.ndarray:
        return aggregate.unit(np.array([animals.descriptors[g].mean(0) for g in groups]))

    @functools.cache
    def points(config: VerifyConfig) -> list[Features]:
        found = features(run, set(animals.ids), config, book)
        return [found[i] for i in animals.ids]

    def marks(geometry: GeometryConfig, **settings: int) -> Method:
        config = VerifyConfig(kinds=("marks",), geometry=geometry, **settings)
        return by_points(points(VerifyConfig(geometry=geometry)), config)

    def sift_fisher() -> Method:
        sift = [unit(f.marks.descriptors) for f in points(VerifyConfig(geometry=SIFT))]
        chosen = animals.instances.database if animals.instances.database.any() else np.ones(len(sift), bool)
        own = fit(InMemory(np.concatenate([sift[i] for i in np.flatnonzero(chosen)])), ROOT_SIFT, seed=0)
        return by_vector(lambda groups: fisher_vectors(own, [np.concatenate([sift[i] for i in g]) for g in groups]))

    fisher = encoded(fisher_vectors)
    return {
        "Fisher vector": lambda: fisher,
        "Fisher vector, verified": lambda: by_points(points(usual), usual, fisher),
        "mean embedding": lambda: encoded(aggregate.mean_embedding),
        "bag of words": lambda: encoded(aggregate.bag_of_words),
        "VLAD": lambda: encoded(aggregate.vlad),
        "GeM descriptor": lambda: by_vector(descriptors),
        "RootSIFT, Fisher vector": sift_fisher,
        "patches, LNBNN": lambda: by_points(points(usual), VerifyConfig(maps=0, kinds=("patches",))),
        "patches, LNBNN, RANSAC": lambda: by_points(points(usual), VerifyConfig(kinds=("patches",))),
        "key points, LNBNN": lambda: marks(usual.geometry, maps=0),
        "key points, LNBNN, RANSAC": lambda: marks(usual.geometry),
        "RootSIFT, LNBNN": lambda: marks(SIFT, maps=0),
        "RootSIFT, LNBNN, RANSAC": lambda: marks(SIFT),
    }


def of_patches(animals: Animals, encode: Callable[[Sequence[np.ndarray]], np.ndarray]) -> Method:
    """Cosine distance of what `encode` makes of all patch embeddings (T, C) of a group."""

    def vectors(groups: Sequence[Group]) -> np.ndarray:
        return encode([np.concatenate([animals.embeddings[i] for i in g]) for g in groups])

    return by_vector(vectors)


def by_vector(encode: Callable[[Sequence[Group]], np.ndarray]) -> Method:
    """Cosine distance of one vector a group; a vector of zeros cannot be compared."""

    def cost(queries: Sequence[Group], gallery: Sequence[Group], allowed: np.ndarray) -> np.ndarray:
        mine, theirs = encode(queries), encode(gallery)
        distance = search.distances(mine, theirs)
        distance[~mine.any(axis=1)] = distance[:, ~theirs.any(axis=1)] = np.inf
        return distance

    return cost


def by_points(points: Sequence[Features], config: VerifyConfig, otherwise: Method | None = None) -> Method:
    """Evidence of key points; groups without any are compared `otherwise`, behind all others, or not at all."""

    def cost(queries: Sequence[Group], gallery: Sequence[Group], allowed: np.ndarray) -> np.ndarray:
        verifier = Verifier([[points[i] for i in verify.spread(g, config.crops)] for g in gallery], config)
        rest = otherwise(queries, gallery, allowed) if otherwise else np.full(allowed.shape, np.inf)
        return np.stack([
            verifier([points[i] for i in verify.spread(g, config.crops)], may).cost(row)
            for g, may, row in zip(queries, allowed, rest, strict=True)
        ])  # fmt: skip

    return cost
