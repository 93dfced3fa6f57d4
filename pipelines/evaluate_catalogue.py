"""How good a catalogue is after how many questions: a simulated reviewer, and encounters whose animals are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from pipelines import catalogue, review
from pipelines.catalogue import Encounters
from pusa import truth
from pusa.catalogue import simulate
from pusa.catalogue.calibration import Calibrations, frequency
from pusa.catalogue.evidence import flanks, shown
from pusa.catalogue.pairs import ProposeConfig
from pusa.catalogue.review import ReviewConfig
from pusa.catalogue.simulate import Figures, Reviewer, Seen
from pusa.errors import UserError
from pusa.gallery import journal
from pusa.gallery.search import Watch
from pusa.gallery.store import Gallery
from pusa.records import Run


@dataclass(frozen=True)
class Row:
    """One way to make the catalogue, with a reviewer of one share of `error`: the figures of each draw of errors."""

    method: str
    error: float
    draws: list[Figures]

    def mean(self, name: str) -> float:
        return float(np.mean([getattr(f, name) for f in self.draws]))


def true_sides(found: Encounters, file: str) -> list[set[str]]:
    """The sides that each encounter truly shows, by the `side` of true animals in a COCO file."""
    sides: list[set[str]] = [set() for _ in found.keys]
    place = found.place
    for uri in dict.fromkeys(run for run, _ in found.keys):
        animals = truth.true_animals(Run(uri), file)
        rows = Run(uri).read("encounters", ["encounter_id", "instance_ids"]).to_pydict()
        for encounter_id, members in zip(rows["encounter_id"], rows["instance_ids"], strict=True):
            i = place.get((uri, encounter_id))
            if i is not None:  # of the animal that names the encounter; a stray one shows nothing of it
                mine = [animals[m] for m in members if m in animals and animals[m].identity == found.names[i]]
                sides[i] = {g.side for g in mine}
    return sides


def evaluate(
    gallery: Gallery,
    calibrations: Calibrations,
    propose: ProposeConfig,
    config: ReviewConfig,
    truth_file: str | None = None,
    errors: Sequence[float] = (0.0, 0.02, 0.05),
    most: int | None = None,
    draws: int = 5,
    kept: Path | None = None,
    sides: bool = False,
    watch: Watch = iter,
) -> tuple[Encounters, list[Row]]:
    """Makes the catalogue of a gallery whose encounters have their true names, as if they had none.

    `truth_file`: the reviewer cannot say whether a left and a right flank are one animal's; else he knows. `sides`:
    those are known as that file has them, in place of what the run says. `most`: questions at most. Raises UserError
    where no encounter has a name, or there is no file to take sides from.
    """
    if sides and not truth_file:
        raise UserError("--sides takes the sides from the file of --truth. Give one, or leave --sides out.")
    known = catalogue.named(catalogue.encounters(gallery))
    if not known.keys:
        raise UserError(f"No encounter of {gallery.uri} has a name: enroll them with their true ones.")
    true = true_sides(known, truth_file) if truth_file else None
    pairs = catalogue.proposals(gallery, known, propose, kept, watch)
    calibration = calibrations.verified if propose.verification else calibrations.distances
    weights = calibration.weights(pairs.signs)
    individual, n = [str(name) for name in known.names], len(known.keys)
    unnamed = replace(known, names=[None] * n, known=journal.Catalogue())
    if true is not None and sides:
        unnamed = replace(unnamed, sides=true, seen=true)
    seen = Seen(shown(unnamed.seen), shown(true)) if true else None

    def ours(reviewer: Reviewer, questions: int | None) -> list[int]:
        asking = review.begin(unnamed, pairs, calibration, config)
        simulate.review(asking, reviewer, questions)
        return asking.clusters.label

    def row(method: str, error: float, labels: Callable[[Reviewer], list[int]]) -> Row:
        found = []
        for seed in range(draws if error else 1):
            reviewer = Reviewer(individual, error, flanks(true) if true else None, seed)
            found.append(simulate.figures(individual, labels(reviewer), reviewer.asked, seen))
        return Row(method, error, found)

    # Where pairs of one animal are so frequent, weights of this size and more mean that one is probable.
    share = frequency(weights, n * (n - 1) // 2)
    threshold = math.log((1 - share) / share)
    rows = [
        row("pairs of p > 1/2 joined", 0.0, lambda _: simulate.by_threshold(n, pairs, weights, threshold)),
        row("clusters, nobody asked", 0.0, lambda reviewer: ours(reviewer, 0)),
    ]
    for error in errors:
        asked = row("clusters, most informative pair first", error, lambda reviewer: ours(reviewer, most))
        as_many = round(asked.mean("questions"))
        rows.append(asked)
        for method, joined in (("nothing joined", math.inf), ("pairs of p > 1/2 joined", threshold)):
            ranked = partial(simulate.by_similarity, n, pairs, weights, most=as_many, threshold=joined)
            rows.append(row(f"{method}, most similar pair first", error, ranked))
    return known, rows
