"""What a run rests on, and what it can go on from: results are valid for an archive, settings and weights, never for a
name alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pusa import exchange
from pusa.errors import UserError
from pusa.records import Run

if TYPE_CHECKING:
    from pipelines.process import ProcessConfig


def basis_of(archive: str, config: ProcessConfig, given: str | None) -> dict[str, Any]:
    """What a run's results rest on: the part of its manifest that must not change."""
    return {
        "archive": archive,
        "config": config.model_dump(mode="json"),
        "weights": config.digests(given is not None),
        "instances": exchange.digest(given) if given else None,
    }


def unchanged(run: Run, basis: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a run that rests on `basis`; UserError where it does not."""
    manifest = run.manifest()
    changed = [key for key in basis if manifest.get(key) != basis[key]]
    if changed:
        raise UserError(
            f"{run.uri} was begun with other {' and '.join(changed)}. Give the same as before, or another --out; "
            f"with --from {run.uri} that one does only what rests on the change."
        )
    return manifest


def known_photos(archive: str, run: Run, source: str | None, config: ProcessConfig) -> pa.Table | None:
    """The index that a run can go on from: its own; or that of `source`, as far as archive and settings are the same,
    without the photos that could not be read there: the cause may be gone."""
    if run.exists():
        return run.read("index")
    if source is None:
        return None
    manifest = Run(source).manifest()
    if manifest["archive"] != archive:
        raise UserError(f"{source} is a run of {manifest['archive']}, not of {archive}.")
    if manifest["config"]["index"] != config.index.model_dump(mode="json"):
        return None
    rows = Run(source).read("index")
    return rows.filter(pc.not_equal(rows["status"], "error"))
