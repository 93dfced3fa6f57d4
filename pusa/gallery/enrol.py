"""Enrolment: the encounters of a finished run, with place, times and points of their crops, become a gallery's."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from pusa.errors import UserError
from pusa.fisher.codebook import Codebook
from pusa.gallery import enrolment, journal, sources
from pusa.gallery.store import Gallery
from pusa.gallery.verify import VerifyConfig
from pusa.records import Run


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
    gallery = Gallery.open(gallery_uri, codebook) if Gallery.exists(gallery_uri) else None
    if names:  # before anything is made or written
        journal.naming({(run.key, e): name for e, name in names.items()}, gallery.decisions() if gallery else [])
    gallery = gallery or Gallery.create(gallery_uri, codebook)
    counts, enrolled = Counter(given=0, enrolled=0), []  # type: tuple[Counter[str], list[str]]
    for batch, described in enrolment.of_run(run, codebook, VerifyConfig(), names):
        late = [
            until is not None and not (d.taken_to and d.taken_to.date() <= until)
            for d in map(described.__getitem__, batch["encounter_id"].to_pylist())
        ]
        rows = batch.filter(pa.array([not x for x in late], pa.bool_()))
        ids = rows["encounter_id"].to_pylist()
        rows = rows.append_column("run", pa.array([run.key] * len(ids), pa.string()))
        rows = rows.append_column("individual", pa.array([names and names[e] for e in ids], pa.string()))
        for name, kind in enrolment.COLUMNS.items():
            rows = rows.append_column(name, pa.array([getattr(described[e], name) for e in ids], kind))
        counts.update(given=len(batch), after=sum(late), without_pattern=rows["fisher"].null_count)
        counts["enrolled"] += gallery.enroll(rows, {e: described[e].crops for e in ids})
        enrolled += ids
    if enrolled:
        sources.keep(gallery, run, enrolled)
    return {**counts, **gallery.counts()}
