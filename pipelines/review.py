"""The review of a catalogue: clusters and questions, what people said about them, and the names that follow."""

from __future__ import annotations

import csv
import math
from collections import Counter
from itertools import count, pairwise
from pathlib import Path

from pipelines.catalogue import MACHINE, Encounters
from pusa import photos
from pusa.catalogue.calibration import PairCalibration, frequency
from pusa.catalogue.clusters import Clusters
from pusa.catalogue.evidence import Evidence, flanks
from pusa.catalogue.pairs import Pairs
from pusa.catalogue.review import Answer, Question, Review, ReviewConfig
from pusa.gallery import geometry
from pusa.gallery.journal import Decision, Key, Look
from pusa.gallery.store import Gallery
from pusa.gallery.verify import Verifier, VerifyConfig

LOOKS: dict[Answer, Look] = {"same": "one_animal", "different": "two_animals", "unknown": "cannot_say"}


def begin(found: Encounters, pairs: Pairs, calibration: PairCalibration, config: ReviewConfig) -> Review:
    """The review of a catalogue, with all that people have said about its encounters so far."""
    n = len(found.keys)
    weights = calibration.weights(pairs.signs)
    share = frequency(weights, max(1, n * (n - 1) // 2))
    evidence = Evidence(n, pairs.at, weights + math.log(share / (1 - share)),
                        flanks(found.sides), found.apart(), found.names)  # fmt: skip
    named: dict[str, list[int]] = {}
    for i, name in enumerate(found.names):
        if name is not None:
            named.setdefault(name, []).append(i)
    for members in named.values():
        for a, b in pairwise(members):
            evidence.join(a, b)
    place, said = found.place, {look: answer for answer, look in LOOKS.items()}
    for first, second, look in found.known.looks:
        if first in place and second in place:
            evidence.answer(place[first], place[second], config.weight(said[look]))
    if config.learn:
        evidence.learn()
    clusters = Clusters(evidence)
    clusters.agglomerate()
    return Review(clusters, config)


def answer(gallery: Gallery, first: Key, second: Key, said: Answer, by: str, reason: str = "") -> Decision:
    """Writes what a person said about a pair into the journal. Raises UserError where the gallery does not have it."""
    return gallery.decide(Decision(LOOKS[said], (first, second), by=by, reason=reason))[0]


def names(found: Encounters, clusters: Clusters) -> list[str | None]:
    """A name for each encounter (N): of its cluster's names so far the one that people gave, else the most frequent
    one that no larger cluster has, else a new one, P0001 and so on. None for an encounter that resembles no other and
    never had a name: nobody knows whether it is a new animal."""
    earlier = [found.known.names.get(key) for key in found.keys]
    taken = {name for name in found.names if name is not None}
    result: list[str | None] = [None] * len(found.keys)
    used = found.known.known | found.known.merged.keys()
    fresh = (name for k in count(1) if (name := f"P{k:04d}") not in used)
    for members in sorted(clusters.members.values(), key=lambda m: (-len(m), min(m))):
        given = [name for name in (found.names[i] for i in members) if name is not None]
        mine = given or [name for name in (earlier[i] for i in members) if name is not None and name not in taken]
        if not mine and len(members) == 1 and earlier[min(members)] is None:
            continue
        chosen = Counter(mine).most_common(1)[0][0] if mine else next(fresh)
        taken.add(chosen)
        for i in members:
            result[i] = chosen
    return result


def accept(gallery: Gallery, found: Encounters, clusters: Clusters, by: str) -> list[Decision]:
    """Enters the names of a catalogue into the journal, where they differ from those it has. They are the machine's
    (`by` accepts them), and a later catalogue is free to change them."""
    wanted: dict[str, list[Key]] = {}
    for key, name in zip(found.keys, names(found, clusters), strict=True):
        if name is not None and found.known.names.get(key) != name:
            wanted.setdefault(name, []).append(key)
    made = [
        Decision("same" if name in found.known.known else "new", tuple(keys), name, by=MACHINE,
                 reason=f"clusters, accepted by {by}", weights=gallery.about["codebook"])
        for name, keys in wanted.items()
    ]  # fmt: skip
    return gallery.decide(*made)


def write(
    out: Path, gallery: Gallery, found: Encounters, review: Review, questions: int, pictures: bool = True
) -> None:
    """Writes OUT/individuals.csv, who each encounter is, and OUT/questions.csv, the `questions` that matter most, with
    a picture of each pair in OUT/questions/."""
    out.mkdir(parents=True, exist_ok=True)
    called = names(found, review.clusters)
    size = Counter(called)
    with (out / "individuals.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["run", "encounter_id", "individual", "encounters", "by"])
        for (run, encounter_id), name, person in zip(found.keys, called, found.names, strict=True):
            by = "person" if person else "catalogue" if name else ""
            writer.writerow([run, encounter_id, name or "", size[name] if name else 1, by])
    with (out / "questions.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["question", "run_a", "encounter_a", "run_b", "encounter_b", "would", "probability", "picture"])
        for number, question in enumerate(review.questions(questions), 1):
            a, b = (found.keys[i] for i in question.pair)
            picture = draw(out / "questions" / f"{number}.jpg", gallery, (a, b))
            writer.writerow([number, *a, *b, told(question, review.clusters), f"{question.probability:.2f}", picture])


def told(question: Question, clusters: Clusters) -> str:
    """What an unexpected answer would do, in words."""
    change, n = question.change, len(question.change.part)
    rest = len(clusters.members[change.source])
    if change.kind == "merge":
        return f"join {n} and {len(clusters.members[change.target])} encounters"
    if change.kind == "split":
        return f"take {n} of {rest} encounters apart"
    return f"move 1 of {rest} encounters to {len(clusters.members[change.target])} others"


def draw(file: Path, gallery: Gallery, keys: tuple[Key, Key]) -> str:
    """Writes the two pictures of a pair of encounters with most matching points, side by side, and returns its path;
    "" where an encounter has no picture."""
    first, second = gallery.features(keys)
    if not first or not second:
        return ""
    a, b, match = Verifier([second], VerifyConfig()).best_pair(first, 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(photos.encode_jpeg(geometry.draw(a, b, match), 90))
    return str(file)
