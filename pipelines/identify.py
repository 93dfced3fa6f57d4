"""From encounters to individuals: enrol encounters with a name in a gallery, and rank a run's encounters against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pusa import photos, records, storage
from pusa.gallery import geometry, search
from pusa.gallery.candidate_set import CandidateSet
from pusa.gallery.crops import of_encounters
from pusa.gallery.enrolment import codebook_of
from pusa.gallery.geometry import Features
from pusa.gallery.index import ALL, Index, Query
from pusa.gallery.search import Watch
from pusa.gallery.store import Gallery
from pusa.gallery.verify import Verifier, VerifyConfig
from pusa.records import Run

DRAWN = 2  # candidates of an encounter whose matching points are drawn
BATCH = 256  # encounters at once: 64 MB of vectors


def identify(
    run: Run,
    gallery_uri: str,
    top: int = 5,
    verification: VerifyConfig | None = None,
    new_share: float = 0.5,
    watch: Watch = iter,
    among: CandidateSet = ALL,
) -> dict[str, Any]:
    """Writes RUN/candidates: the `top` nearest individuals of every encounter that has a pattern.

    An encounter that is enrolled itself is not compared with itself. `verification`: points of the nearest ones'
    crops are compared, too, and candidates get probabilities, by the gallery's own calibration or the starter's;
    `new_share`: of the encounters that are asked, how many are expected to be new. `watch`: shows the progress.
    `among`: the candidate set. Raises UserError where run and gallery do not belong to the same codebook, and as
    `CandidateSet.members`.
    """
    manifest = run.finished_manifest()
    gallery = Gallery.open(gallery_uri)
    gallery.check(manifest["weights"].get("codebook", "none"))
    verification = verification and gallery.verifying(verification)
    index = Index(gallery, verification)
    searched = int(among.members(index.vectors.about).sum())
    codebook = codebook_of(run)
    run.clear("candidates")
    run.clear("matches")
    counts: dict[str, Any] = {
        "encounters": 0,
        "compared": 0,
        "without_pattern": 0,
        "individuals": gallery.counts()["individuals"],
        "candidate_set": str(among),
        "searched": searched,
    }
    columns = ["encounter_id", "n_patches", "fisher"]
    for number, batch in enumerate(run.batches("encounters", columns, rows=BATCH)):
        with_pattern = batch.filter(batch["fisher"].is_valid())
        ids = with_pattern["encounter_id"].to_pylist()
        counts["encounters"] += len(batch)
        counts["compared"] += len(ids)
        counts["without_pattern"] += len(batch) - len(ids)
        if ids:
            crops = of_encounters(run, verification, codebook, set(ids)) if verification else {}
            vectors = with_pattern["fisher"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            queries = [
                Query((run.key, e), vector, n, list(crops.get(e, {}).values()))
                for e, vector, n in zip(
                    ids, vectors.reshape(len(ids), -1), with_pattern["n_patches"].to_pylist(), strict=True
                )
            ]
            ranking = index.ask(queries, among, top, new_share, watch)
            run.write("candidates", ranking.candidates, f"{number:05d}")
            if index.verifier is not None:
                draw_matches(run, ranking, {e: list(found.values()) for e, found in crops.items()}, index.verifier)
    if verification:
        counts |= {"calibration": index.calibration.source, "new_share": new_share}
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
