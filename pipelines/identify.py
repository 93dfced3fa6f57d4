"""From encounters to individuals: enrol encounters with a name in a gallery, and rank a run's encounters against it."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from pusa import exchange, photos, records, storage, truth
from pusa.errors import UserError
from pusa.exchange.tables import read_csv
from pusa.fisher.codebook import Codebook
from pusa.gallery import geometry, search, sources
from pusa.gallery.calibration import Calibration
from pusa.gallery.crops import of_encounters
from pusa.gallery.geometry import Features
from pusa.gallery.search import Vectors, Watch
from pusa.gallery.store import Gallery
from pusa.gallery.verify import Verifier, VerifyConfig
from pusa.records import Run

THUMBNAIL = 256  # px, longer side of the picture that stands for an individual
DRAWN = 2  # candidates of an encounter whose matching points are drawn
BATCH = 256  # encounters at once: 64 MB of vectors


def encounter_names(run: Run, file: str) -> dict[str, str]:
    """Individual by encounter_id from a CSV (columns encounter_id, individual), or from instances with an identity:
    COCO, MegaDetector's as Pusa writes them, wildlife-datasets, SealID, Camtrap DP.

    In the second case an encounter takes the name of most of its instances, matched by mask. Raises UserError where the
    CSV names an encounter that the run does not have, or gives one two names.
    """
    if exchange.kind_of(file) != "csv":
        return truth.encounter_identities(
            run.read("encounters", ["encounter_id", "instance_ids"]), truth.identities(truth.true_animals(run, file))
        )
    known = set(run.read("encounters", ["encounter_id"])["encounter_id"].to_pylist())
    names: dict[str, str] = {}
    for line, row in read_csv(file, ["encounter_id", "individual"]):
        if row["encounter_id"] not in known:
            raise UserError(f"{file}, line {line}: the run {run.uri} has no encounter {row['encounter_id']!r}.")
        name = row["individual"]
        if name and (other := names.setdefault(row["encounter_id"], name)) != name:
            raise UserError(
                f"{file}, line {line}: expected one individual an encounter, found {name!r} for {row['encounter_id']}, "
                f"which is {other!r} above. If they are one animal, give it one name."
            )
    return names


def codebook_of(run: Run) -> Codebook:
    """The codebook that a finished run was encoded with. Raises UserError where there is none, or another by now."""
    manifest = run.finished_manifest()
    if "codebook" not in manifest["weights"]:
        raise UserError(
            f"{run.uri} was processed without a codebook: its encounters have no vectors. Process it with one."
        )
    codebook = Codebook.load(manifest["config"]["encounters"]["codebook"])
    if codebook.digest != manifest["weights"]["codebook"]:
        raise UserError(f"The codebook of {run.uri} has changed since the run. Process the archive into a new folder.")
    return codebook


def enroll(
    run: Run, gallery_uri: str, names: Mapping[str, str] | None = None, until: dt.date | None = None
) -> dict[str, int]:
    """Adds encounters of a finished run to a gallery, which is made where there is none: the named ones; without
    `names` all, which nobody has decided about.

    `until`: only encounters whose last photo was taken on that day or before; those without a time are left out.
    Raises UserError where the gallery belongs to another codebook.
    """
    codebook = codebook_of(run)
    described = describe(run)
    rows, counts = [], Counter(given=len(described if names is None else names))
    for batch in run.batches("encounters", ["encounter_id", "sequence_id", "n_patches", "fisher"], rows=BATCH):
        for place in np.flatnonzero([names is None or i in names for i in batch["encounter_id"].to_pylist()]):
            row = batch.slice(place, 1)
            encounter_id = row["encounter_id"][0].as_py()
            about = described[encounter_id]
            if until and not (about["taken_to"] and about["taken_to"].date() <= until):
                counts["after"] += 1
                continue
            fields = {"run": run.key, "individual": names and names[encounter_id], **about}
            counts["without_pattern"] += row["fisher"][0].as_py() is None
            for name, value in fields.items():
                kind = pa.timestamp("ms") if name.startswith("taken") else None
                row = row.append_column(
                    name, pa.array([value], kind or (pa.binary() if name == "thumbnail" else pa.string()))
                )
            rows.append(row)
    gallery = (
        Gallery.open(gallery_uri, codebook) if Gallery.exists(gallery_uri) else Gallery.create(gallery_uri, codebook)
    )
    counts["enrolled"] = 0
    if rows:
        every = pa.concat_tables(rows)
        crops = of_encounters(run, VerifyConfig(), codebook, set(every["encounter_id"].to_pylist()))
        sources.keep(gallery, run, every["encounter_id"].to_pylist())
        counts["enrolled"] = gallery.enroll(every, crops)
    return {**counts, **gallery.counts()}


def describe(run: Run) -> dict[str, dict[str, Any]]:
    """Place, times, side and a thumbnail of each encounter, by encounter_id; read in one pass over the photos."""
    encounters = run.read("encounters", ["encounter_id", "instance_ids"]).to_pydict()
    owner = {m: e for e, members in zip(*encounters.values(), strict=True) for m in members}
    places = dict(zip(*run.read("deployments", ["deployment_id", "place"]).to_pydict().values(), strict=True))
    result: dict[str, dict[str, Any]] = {
        e: {"place": None, "taken_from": None, "taken_to": None, "side": None, "thumbnail": None}
        for e in encounters["encounter_id"]
    }
    sides: dict[str, Counter[str]] = {e: Counter() for e in result}
    most: dict[str, int] = {}
    children = (f"instances.list.element.{name}" for name in ("instance_id", "side", "patch_boxes", "crop"))
    for batch in run.batches("photos", ["taken_at", "deployment_id", *children]):
        times, deployments = batch["taken_at"].to_pylist(), batch["deployment_id"].to_pylist()
        for time, deployment, nested in zip(times, deployments, records.instances(batch), strict=True):
            for instance in nested:
                encounter_id = owner.get(instance["instance_id"])
                if encounter_id is None:
                    continue
                about = result[encounter_id]
                about["place"] = about["place"] or places.get(deployment)
                if time:
                    about["taken_from"] = min(about["taken_from"] or time, time)
                    about["taken_to"] = max(about["taken_to"] or time, time)
                sides[encounter_id][instance["side"]] += 1
                patches = len(instance["patch_boxes"] or [])
                if patches > most.get(encounter_id, -1):
                    most[encounter_id], about["thumbnail"] = patches, _thumbnail(instance["crop"])
    for encounter_id, seen in sides.items():
        result[encounter_id]["side"] = min(seen, key=lambda s: (-seen[s], s)) if seen else None
    return result


def _thumbnail(crop: bytes) -> bytes:
    rgb = photos.decode_jpeg(crop)
    scale = min(1.0, THUMBNAIL / max(rgb.shape[:2]))
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    return photos.encode_jpeg(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), 85)


def identify(
    run: Run,
    gallery_uri: str,
    top: int = 5,
    verification: VerifyConfig | None = None,
    new_share: float = 0.5,
    watch: Watch = iter,
) -> dict[str, Any]:
    """Writes RUN/candidates: the `top` nearest individuals of every encounter that has a pattern.

    An encounter that is enrolled itself is not compared with itself. `verification`: points of the nearest ones'
    crops are compared, too, and candidates get probabilities, by the gallery's own calibration or the starter's;
    `new_share`: of the encounters that are asked, how many are expected to be new. `watch`: shows the progress. Raises
    UserError where run and gallery do not belong to the same codebook.
    """
    manifest = run.finished_manifest()
    gallery = Gallery.open(gallery_uri)
    gallery.check(manifest["weights"].get("codebook", "none"))
    vectors = gallery.vectors()
    mine = of_encounters(run, verification, codebook_of(run)) if verification else {}
    verifier = verifier_of(gallery, vectors, verification) if verification else None
    calibration = gallery.calibration or Calibration.starter()
    run.clear("candidates")
    run.clear("matches")
    counts: dict[str, Any] = {
        "encounters": 0,
        "compared": 0,
        "without_pattern": 0,
        "individuals": gallery.counts()["individuals"],
    }
    columns = ["encounter_id", "n_patches", "fisher"]
    for number, batch in enumerate(run.batches("encounters", columns, rows=BATCH)):
        with_pattern = batch.filter(batch["fisher"].is_valid())
        ids = with_pattern["encounter_id"].to_pylist()
        counts["encounters"] += len(batch)
        counts["compared"] += len(ids)
        counts["without_pattern"] += len(batch) - len(ids)
        if ids:
            flat = with_pattern["fisher"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            crops = watch([list(mine[e].values()) for e in ids]) if mine else ()
            itself = search.same_encounter(run.key, ids, vectors)
            found = search.compare(flat.reshape(len(ids), -1), vectors, ~itself, crops, verifier)
            n_patches = with_pattern["n_patches"].to_numpy()
            shares = calibration.probabilities(found, n_patches, new_share) if verification else ()
            ranking = search.rank(ids, found, top, *shares)
            run.write("candidates", ranking.candidates, f"{number:05d}")
            if verifier is not None:
                draw_matches(run, ranking, {e: list(mine[e].values()) for e in ids}, verifier)
    if verification:
        counts |= {"calibration": calibration.source, "new_share": new_share}
    run.write_manifest(manifest | {"gallery": gallery_uri, "identified": counts})
    return counts


def draw_matches(
    run: Run, ranking: search.Ranking, crops: Mapping[str, Sequence[Features]], verifier: Verifier
) -> None:
    """Writes RUN/matches/<name>.jpg (`records.match_name`) of the first candidates that matching points speak for."""
    for row, encounter in zip(ranking.candidates.to_pylist(), ranking.nearest, strict=True):
        if row["rank"] <= DRAWN and row["inliers"]:
            first, second, found = verifier.best_pair(crops[row["encounter_id"]], int(encounter))
            picture = photos.encode_jpeg(geometry.draw(first, second, found), 85)
            name = records.match_name(row["encounter_id"], row["individual"])
            storage.write_bytes(run.fs, run.file("matches", name), picture)


def verifier_of(gallery: Gallery, vectors: Vectors, config: VerifyConfig) -> Verifier:
    """The verifier of a gallery's encounters."""
    return Verifier(gallery.features(list(zip(vectors.runs, vectors.encounter_ids, strict=True))), config)
