"""The encounters of a gallery that a catalogue is made of, and the pairs of them that may show one animal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pusa import records
from pusa.catalogue import pairs as search
from pusa.catalogue.calibration import Calibrations, PairCalibration
from pusa.catalogue.evidence import Pair, pair
from pusa.catalogue.pairs import Pairs, ProposeConfig
from pusa.gallery.journal import Catalogue, Decision, Key
from pusa.gallery.search import Watch
from pusa.gallery.store import Gallery
from pusa.records import Run
from pusa.sides.agree import agreed

MACHINE = "pusa catalogue"  # who decides names that nobody looked at; the next catalogue is free to change them
ROWS = 256  # encounters read at once: 32 MB of vectors

Side = tuple[str, float | None]  # one of SIDES, and how sure the network was that told it


@dataclass(frozen=True)
class Encounters:
    """The N encounters of a gallery that may be in a catalogue, in the order of their keys. `names` that people gave;
    `photos` of their instances, `sides` as the input says them, and `seen`: these and those that the network told;
    `known`: what follows from the journal."""

    keys: list[Key]
    sequences: list[str]
    names: list[str | None]
    photos: list[set[str]]
    sides: list[set[str]]
    seen: list[set[str]]
    known: Catalogue

    @property
    def place(self) -> dict[Key, int]:
        return {key: i for i, key in enumerate(self.keys)}

    def apart(self) -> set[Pair]:
        """Pairs that are two animals, since one photo shows both."""
        shown: dict[str, list[int]] = {}
        for i, photos in enumerate(self.photos):
            for photo in photos:
                shown.setdefault(photo, []).append(i)
        return {pair(a, b) for together in shown.values() for a, b in combinations(together, 2)}


def encounters(gallery: Gallery) -> Encounters:
    """The encounters of a gallery, less those of which people said that they show no animal, or that nobody can say.

    Photos and sides come from the run where it still exists, else from the crops that the gallery keeps; it does not
    know who said a side, so it counts as the input's.
    """
    decisions = gallery.decisions()
    known = gallery.catalogue()
    people = _named_by_people(decisions, known)
    rows = gallery.encounters.search().select(["run", "encounter_id", "sequence_id", "side"]).to_arrow().to_pylist()
    rows = [r for r in rows if known.verdicts.get((r["run"], r["encounter_id"])) not in ("not_animal", "unknown")]
    rows.sort(key=lambda r: (r["run"], r["encounter_id"]))
    keys = [(r["run"], r["encounter_id"]) for r in rows]
    instances: dict[Key, dict[str, Side]] = {}
    for run in dict.fromkeys(run for run, _ in keys):
        instances |= _instances(Run(run)) if Run(run).exists() else {}
    lost = sorted(set(keys) - instances.keys())
    sides = {key: r["side"] or "unknown" for key, r in zip(keys, rows, strict=True)}
    for key, crops in zip(lost, gallery.crops(lost), strict=True):
        instances[key] = {crop["instance_id"]: (sides[key], None) for crop in crops}
    mine = [
        {i: side for i, side in instances.get(key, {}).items() if i not in known.crops.get(key, ())} for key in keys
    ]
    photos = [{i.rsplit("#", 1)[0] for i in each} for each in mine]
    said = [{side if told is None else "unknown" for side, told in each.values()} for each in mine]
    seen = [set(agreed(list(each.values()))) for each in mine]
    sequences = [f"{r['run']}\0{r['sequence_id'] or r['encounter_id']}" for r in rows]
    return Encounters(keys, sequences, [people.get(k) for k in keys], photos, said, seen, known)


def named(found: Encounters) -> Encounters:
    """Those of the encounters that have a name."""
    chosen = [i for i, name in enumerate(found.names) if name is not None]
    return Encounters(
        [found.keys[i] for i in chosen], [found.sequences[i] for i in chosen], [found.names[i] for i in chosen],
        [found.photos[i] for i in chosen], [found.sides[i] for i in chosen], [found.seen[i] for i in chosen],
        found.known,
    )  # fmt: skip


def _named_by_people(decisions: Sequence[Decision], known: Catalogue) -> dict[Key, str]:
    """The names of encounters whose last name a person gave."""
    last: dict[Key, str] = {}
    for d in decisions:
        if d.kind in ("same", "new", "split") and d.decision_id not in known.undone | known.void:
            last |= dict.fromkeys(d.encounters, d.by)
    return {key: name for key, name in known.names.items() if last.get(key) != MACHINE}


def _instances(run: Run) -> dict[Key, dict[str, Side]]:
    """Side by instance_id of each encounter of a run."""
    found = run.read("encounters", ["encounter_id", "instance_ids"]).to_pydict()
    owner = {i: (run.key, e) for e, ids in zip(*found.values(), strict=True) for i in ids}
    result: dict[Key, dict[str, Side]] = {(run.key, e): {} for e in found["encounter_id"]}
    columns = [f"instances.list.element.{name}" for name in ("instance_id", "side", "side_probability")]
    for batch in run.batches("photos", columns):
        for instance in (i for nested in records.instances(batch) for i in nested):
            if (key := owner.get(instance["instance_id"])) is not None:
                # Runs of older versions have no probabilities: their sides are the input's.
                result[key][instance["instance_id"]] = instance["side"], instance.get("side_probability")
    return result


def vectors(gallery: Gallery, keys: Sequence[Key], config: ProposeConfig) -> np.ndarray:
    """What encounters (N) are searched by, (N, d): their Fisher vectors, or, of more than `sample`, codes. Zeros where
    there is none."""
    place = {key: i for i, key in enumerate(keys)}
    length = int(gallery.about["length"])

    def blocks(wanted: Mapping[Key, int]) -> Iterator[tuple[list[int], np.ndarray]]:
        stored = gallery.encounters.search().where("fisher IS NOT NULL").select(["run", "encounter_id", "fisher"])
        for batch in stored.to_batches(batch_size=ROWS):
            found = zip(batch["run"].to_pylist(), batch["encounter_id"].to_pylist(), strict=True)
            at = [wanted.get(key, -1) for key in found]
            rows = batch["fisher"].flatten().to_numpy(zero_copy_only=False).reshape(len(at), length)
            yield [i for i in at if i >= 0], rows[[i >= 0 for i in at]]

    def gathered(wanted: Mapping[Key, int]) -> np.ndarray:
        result = np.zeros((len(wanted), length), np.float16)
        for at, rows in blocks(wanted):
            result[at] = rows
        return result

    if len(keys) <= config.sample:
        return gathered(place)
    chosen = np.random.default_rng(0).choice(len(keys), config.sample, replace=False)
    sample = gathered({keys[i]: k for k, i in enumerate(chosen)})
    axes = search.projection(sample[sample.any(axis=1)], config.dimensions)
    result = np.zeros((len(keys), axes.shape[1]), np.float32)
    for at, rows in blocks(place):
        result[at] = search.codes([rows], axes)
    return result


def proposals(
    gallery: Gallery, found: Encounters, config: ProposeConfig, kept: Path | None = None, watch: Watch = iter
) -> Pairs:
    """The pairs of the encounters. `kept`: Parquet file that they are read from, if it was written for the same
    encounters and settings, and else written to."""
    about = {"encounters": _digest(found), "config": config.model_dump_json()}
    if kept and kept.exists():
        table = pq.read_table(kept)
        if table.schema.metadata and json.loads(table.schema.metadata.get(b"pusa", b"{}")) == about:
            at = np.column_stack([table["first"].to_numpy(), table["second"].to_numpy()])
            return Pairs(at, np.column_stack([table[name].to_numpy() for name in search.SIGNS]))
    crops = gallery.features(found.keys) if config.verification else []
    made = search.propose(vectors(gallery, found.keys, config), config, crops, watch).without(found.apart())
    if kept:
        columns = {"first": made.at[:, 0], "second": made.at[:, 1]}
        columns |= {name: made.signs[:, k] for k, name in enumerate(search.SIGNS)}
        kept.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table(columns).replace_schema_metadata({"pusa": json.dumps(about)})
        pq.write_table(table, kept, compression="zstd")
    return made


def _digest(found: Encounters) -> str:
    rows = [(*key, sorted(photos)) for key, photos in zip(found.keys, found.photos, strict=True)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def calibrate(galleries: Sequence[Gallery], watch: Watch = iter) -> Calibrations:
    """Probabilities of pairs from galleries whose encounters have names: those of different sequences, of one animal
    and of two; never of two galleries. Raises UserError where too few are of one."""
    known = [(gallery, named(encounters(gallery))) for gallery in galleries]
    source = f"{sum(len(f.keys) for _, f in known)} encounters of {', '.join(g.uri for g in galleries)}"

    def fit(config: ProposeConfig) -> PairCalibration:
        signs, same = [], []
        for gallery, found in known:
            proposed = proposals(gallery, found, config, watch=watch)
            a, b = proposed.at.T
            name, sequence = np.array(found.names), np.array(found.sequences)
            other = sequence[a] != sequence[b]
            signs.append(proposed.signs[other])
            same.append((name[a] == name[b])[other])
        return PairCalibration.fit(np.concatenate(signs), np.concatenate(same), source)

    every = max(1, *(len(f.keys) for _, f in known))
    return Calibrations(verified=fit(ProposeConfig()), distances=fit(ProposeConfig(verification=None, nearest=every)))
