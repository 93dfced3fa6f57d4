"""`pusa gallery`: the known individuals."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

app = typer.Typer(help="The gallery of known individuals.", no_args_is_help=True)


@app.command()
def enroll(
    run: Annotated[str, typer.Argument(help="Folder of a run that `pusa process` finished.")],
    gallery: Annotated[str, typer.Option(help="Folder of the gallery; made where there is none.")],
    individuals: Annotated[
        str, typer.Option(help="Who is who: CSV (encounter_id, individual), or COCO with `identity`.")
    ],
    until: Annotated[
        dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only encounters seen on this day or before.")
    ] = None,
) -> None:
    """Add encounters with a name to the gallery. An encounter that is there already is replaced."""
    from rich.console import Console

    from pipelines import identify
    from pusa.records import Run

    opened = Run(run)
    opened.finished_manifest()
    names = identify.encounter_names(opened, individuals)
    counts = identify.enroll(opened, gallery, names, until.date() if until else None)
    console = Console(highlight=False)
    later = f", {counts['after']} left out as later than {until:%Y-%m-%d} or without a time" if until else ""
    console.print(f"{counts['enrolled']} of {counts['named']} named encounters enrolled{later}.", soft_wrap=True)
    if counts.get("without_pattern"):
        console.print(f"{counts['without_pattern']} of them have no pattern: they are kept, but cannot be found.")
    console.print(
        f"The gallery {gallery} has {counts['individuals']} individuals, {counts['encounters']} encounters.",
        soft_wrap=True,
    )
