"""The review of a catalogue: clusters and questions, what people said about them, and the names that follow."""

from __future__ import annotations

import math
from itertools import pairwise

from pipelines.catalogue import Encounters
from pusa.catalogue.calibration import PairCalibration, frequency
from pusa.catalogue.clusters import Clusters
from pusa.catalogue.evidence import Evidence, flanks
from pusa.catalogue.pairs import Pairs
from pusa.catalogue.review import Answer, Review, ReviewConfig
from pusa.gallery.journal import Decision, Key, Look
from pusa.gallery.store import Gallery

CERTAIN = 1000.0  # weight of two encounters that people gave one name
LOOKS: dict[Answer, Look] = {"same": "one_animal", "different": "two_animals", "unknown": "cannot_say"}


def begin(found: Encounters, pairs: Pairs, calibration: PairCalibration, config: ReviewConfig) -> Review:
    """The review of a catalogue, with all that people have said about its encounters so far."""
    n = len(found.keys)
    weights = calibration.weights(pairs.signs)
    animals = n / (1 + frequency(weights, n * (n - 1) // 2) * (n - 1)) if n > 1 else 1.0
    evidence = Evidence(n, pairs.at, config.counted(weights), flanks(found.sides), found.apart(), found.names)
    named: dict[str, list[int]] = {}
    for i, name in enumerate(found.names):
        if name is not None:
            named.setdefault(name, []).append(i)
    for members in named.values():
        for a, b in pairwise(members):
            evidence.weights[a][b] = evidence.weights[b][a] = CERTAIN
    place, said = found.place, {look: answer for answer, look in LOOKS.items()}
    for first, second, look in found.known.looks:
        if first in place and second in place:
            evidence.answer(place[first], place[second], config.weight(said[look]))
    clusters = Clusters(evidence, math.log(max(animals, 1.0)))
    clusters.agglomerate()
    return Review(clusters, config)


def answer(gallery: Gallery, first: Key, second: Key, said: Answer, by: str, reason: str = "") -> Decision:
    """Writes what a person said about a pair into the journal. Raises UserError where the gallery does not have it."""
    return gallery.decide(Decision(LOOKS[said], (first, second), by=by, reason=reason))[0]
