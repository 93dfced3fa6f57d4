"""`pusa gallery`: the known individuals, and who decided what."""

from __future__ import annotations

import datetime as dt
import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pusa.gallery.journal import Decision, Key
    from pusa.gallery.store import Gallery

app = typer.Typer(help="The gallery of known individuals.", no_args_is_help=True)

Where = Annotated[str, typer.Argument(help="Folder of the gallery: local, s3:// or gs://.")]
Encounters = Annotated[list[str], typer.Argument(help="encounter_id, one or more, as `pusa report` shows them.")]
OfRun = Annotated[str | None, typer.Option("--run", help="Run of the encounters, where several have such ones.")]
By = Annotated[str, typer.Option(default_factory=getpass.getuser, show_default="you", help="Who decides.")]
Reason = Annotated[str, typer.Option(help="Why, for whoever reads the journal.")]


@app.command()
def enroll(
    run: Annotated[str, typer.Argument(help="Folder of a run that `pusa process` finished.")],
    gallery: Annotated[str, typer.Option(help="Folder of the gallery; made where there is none.")],
    individuals: Annotated[
        str | None,
        typer.Option(
            help="Who is who: CSV (encounter_id, individual); or COCO with `identity`, wildlife-datasets, SealID, "
            "Camtrap DP. Left out: all encounters, to be decided later."
        ),
    ] = None,
    until: Annotated[
        dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only encounters seen on this day or before.")
    ] = None,
    marks: Annotated[
        str | None,
        typer.Option(
            help="Weights that describe key points in a gallery that is made: starter/rings (seals) unless given, "
            "starter/marks for another species, or what `pusa train marks` made."
        ),
    ] = None,
) -> None:
    """Add encounters to the gallery. An encounter that is there already is replaced."""
    from rich.console import Console

    from pusa.gallery.enrolment import enroll as run_enroll
    from pusa.records import Run
    from pusa.truth import encounter_names

    opened = Run(run)
    opened.finished_manifest()
    names = encounter_names(opened, individuals) if individuals else None
    counts = run_enroll(opened, gallery, names, until.date() if until else None, marks)
    console = Console(highlight=False)
    later = f", {counts['after']} left out as later than {until:%Y-%m-%d} or without a time" if until else ""
    kind = "encounters" if names is None else "named encounters"
    console.print(f"{counts['enrolled']} of {counts['given']} {kind} enrolled{later}.", soft_wrap=True)
    if counts.get("without_pattern"):
        console.print(f"{counts['without_pattern']} of them have no pattern: they are kept, but cannot be found.")
    console.print(
        f"The gallery {gallery} has {counts['individuals']} individuals, {counts['encounters']} encounters, "
        f"{counts['without_name']} of them without a name.",
        soft_wrap=True,
    )


@app.command()
def calibrate(
    gallery: Where,
    out: Annotated[Path | None, typer.Option(help="Write it to a file (.json), too.")] = None,
    also: Annotated[
        list[str] | None, typer.Option(help="Another gallery whose animals count as well; may be given repeatedly.")
    ] = None,
) -> None:
    """Fit the probabilities of `pusa identify` to this gallery's own animals, seen in several sequences."""
    from rich.console import Console
    from rich.progress import track

    from pipelines.calibrate import cases_of
    from pusa.gallery.calibration import fit
    from pusa.gallery.store import Gallery
    from pusa.gallery.verify import VerifyConfig

    opened = Gallery.open(gallery)
    galleries = [opened, *(Gallery.open(uri) for uri in also or [])]
    asked = [cases_of(g, VerifyConfig(), lambda crops: track(crops, "comparing")) for g in galleries]
    count = sum(len(with_it.true) for with_it, _ in asked)
    source = f"{count} encounters of {', '.join(g.uri for g in galleries)}"
    found = fit([case for both in asked for case in both]).model_copy(update={"source": source})
    opened.keep_calibration(found)
    if out:
        found.save(out)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Fitted to {count} encounters, each asked with its individual and without it.")
    for tolerated in (0.01, 0.05, 0.1):
        threshold = found.threshold(tolerated)
        share = sum(p >= threshold for p, _ in found.held_out) / len(found.held_out)
        console.print(
            f"If {tolerated:.0%} wrong names are tolerated: take the first candidate from a probability of "
            f"{threshold:.2f} on ({share:.0%} of the encounters, half of which are new)."
        )


@app.command()
def rebuild(
    gallery: Where,
    out: Annotated[str, typer.Option(help="Folder of the new gallery; the old one stays as it is.")],
    codebook: Annotated[str, typer.Option(help="Codebook of the new gallery.")] = "starter/codebook",
    embedding: Annotated[str, typer.Option(help="Weights of the patch network behind it.")] = "starter/embedding",
) -> None:
    """Make a gallery anew for other weights: same encounters and decisions, less the crops that were taken out."""
    from rich.console import Console

    from pipelines.rebuild import rebuild as run_rebuild
    from pusa.fisher.codebook import Codebook
    from pusa.gallery.store import Gallery

    console = Console(highlight=False, soft_wrap=True)
    counts = run_rebuild(
        Gallery.open(gallery), out, Codebook.load(codebook), embedding, lambda run: console.print(f"{run} ...")
    )
    console.print(
        f"The gallery {out} has {counts['encounters']} encounters; {counts['without_vector']} cannot be found: they "
        f"have no pattern, or their run is gone ({counts['without_run']})."
    )


@app.command()
def decide(
    gallery: Where,
    encounters: Encounters,
    *,
    same: Annotated[str | None, typer.Option(help="They show this known individual.")] = None,
    new: Annotated[str | None, typer.Option(help="They show an animal not known before, to be called so.")] = None,
    unknown: Annotated[bool, typer.Option("--unknown", help="Looked at, but nobody can say.")] = False,
    not_animal: Annotated[bool, typer.Option("--not-animal", help="They, or the --crop, show no animal.")] = False,
    other_animal: Annotated[bool, typer.Option("--other-animal", help="The --crop shows another animal.")] = False,
    crop: Annotated[str | None, typer.Option(help="instance_id of one crop of the encounter.")] = None,
    run: OfRun = None,
    by: By,
    reason: Reason = "",
) -> None:
    """Say who an encounter is, or that it cannot be said."""
    from pusa.errors import UserError
    from pusa.gallery.journal import Decision
    from pusa.gallery.store import Gallery

    chosen = {"same": same is not None, "new": new is not None, "unknown": unknown, "not_animal": not_animal,
              "other_animal": other_animal}  # fmt: skip
    kinds = [kind for kind, given in chosen.items() if given]
    if len(kinds) != 1:
        raise UserError("Expected one of --same NAME, --new NAME, --unknown, --not-animal, --other-animal.")
    opened = Gallery.open(gallery)
    keys = _keys(opened, encounters, run)
    name = same if same is not None else new
    _decide(opened, Decision(kinds[0], keys, name, instance_id=crop, by=by, reason=reason))  # type: ignore[arg-type]


@app.command()
def merge(
    gallery: Where,
    individual: Annotated[str, typer.Argument(help="This individual is ...")],
    into: Annotated[str, typer.Argument(help="... the same animal as this one, whose name stays.")],
    *,
    by: By,
    reason: Reason = "",
) -> None:
    """Say that two individuals are one animal."""
    from pusa.gallery.journal import Decision
    from pusa.gallery.store import Gallery

    _decide(Gallery.open(gallery), Decision("merge", individual=individual, other=into, by=by, reason=reason))


@app.command()
def split(
    gallery: Where,
    individual: Annotated[str, typer.Argument(help="Individual that is two animals.")],
    encounters: Encounters,
    *,
    new: Annotated[str, typer.Option(help="Name of the animal that these encounters show.")],
    run: OfRun = None,
    by: By,
    reason: Reason = "",
) -> None:
    """Say that some encounters of an individual are another animal, not known before."""
    from pusa.gallery.journal import Decision
    from pusa.gallery.store import Gallery

    opened = Gallery.open(gallery)
    keys = _keys(opened, encounters, run)
    _decide(opened, Decision("split", keys, individual, new, by=by, reason=reason))


@app.command()
def undo(
    gallery: Where,
    decision: Annotated[str, typer.Argument(help="Its id, or the beginning of it: see `pusa gallery journal`.")],
    *,
    by: By,
    reason: Reason = "",
) -> None:
    """Take a decision back: everything is as if it had never been made."""
    from pusa.errors import UserError
    from pusa.gallery.journal import Decision
    from pusa.gallery.store import Gallery

    opened = Gallery.open(gallery)
    ids = [d.decision_id for d in opened.decisions() if d.decision_id.startswith(decision)]
    if len(ids) != 1:
        raise UserError(f"{len(ids)} decisions begin with {decision!r}; expected one. `pusa gallery journal` has them.")
    _decide(opened, Decision("undo", undoes=ids[0], by=by, reason=reason))


@app.command()
def journal(
    gallery: Where,
    of: Annotated[str | None, typer.Option(help="Only what is about this individual or encounter.")] = None,
) -> None:
    """Show who decided what, in order."""
    from rich.console import Console
    from rich.table import Table

    from pusa.gallery.store import Gallery

    opened = Gallery.open(gallery)
    decisions = opened.decisions()
    found = opened.catalogue()
    table = Table("id", "made", "by", "decision", "reason")
    for d in decisions:
        if of is None or of in {d.individual, d.other, *(e for _, e in d.encounters)}:
            state = "void: " + found.void[d.decision_id] if d.decision_id in found.void else ""
            state = "undone" if d.decision_id in found.undone else state
            why = ", ".join(part for part in (d.reason, state) if part)
            table.add_row(d.decision_id[:8], f"{d.made_at:%Y-%m-%d %H:%M}", d.by, d.told(), why)
    Console(highlight=False, markup=False).print(table)


def _keys(gallery: Gallery, encounters: list[str], run: str | None) -> tuple[Key, ...]:
    """The keys of encounters; `run`: its folder, or the name of a collection that is no run."""
    from pusa.records import Run

    return tuple(gallery.keys(encounters, Run(run).key if run and Run(run).exists() else run))


def _decide(gallery: Gallery, decision: Decision) -> None:
    """Writes a decision and says what that did."""
    for made in gallery.decide(decision):
        counts = gallery.counts()
        typer.echo(
            f"{made.told()}: decision {made.decision_id[:8]}. The gallery has {counts['individuals']} individuals; "
            f"{counts['without_name']} of {counts['encounters']} encounters have no name."
        )
