"""`pusa report`: the pages of a run, to look at in any browser."""

from __future__ import annotations

from typing import Annotated

import typer


def report(
    run: Annotated[str, typer.Argument(help="Folder of a finished run: local, s3:// or gs://.")],
    *,
    gallery: Annotated[
        str | None,
        typer.Option(help="Gallery with the pictures of the candidates; the one `pusa identify` used if left out."),
    ] = None,
    sheets: Annotated[
        bool, typer.Option("--sheets", help="A contact sheet of each sequence, too: RUN/sheets/.")
    ] = False,
) -> None:
    """Write RUN/report.html: what was found, each encounter with its pictures, pattern and nearest individuals."""
    from rich.console import Console

    from pusa.gallery.store import Gallery
    from pusa.records import Run
    from pusa.report.page import write_report

    opened = Run(run)
    recorded = opened.finished_manifest().get("gallery")
    if gallery is not None:
        pages = write_report(opened, Gallery.open(gallery).thumbnail, gallery)
    elif recorded is not None and Gallery.exists(recorded):
        pages = write_report(opened, Gallery.open(recorded).thumbnail, recorded)
    else:
        pages = write_report(opened, gallery=recorded)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(pages[0])
    if len(pages) > 1:
        console.print(f"{len(pages)} pages, the last is {pages[-1].rsplit('/', 1)[1]}")
    if sheets:
        from pusa.report.sheets import write_sheets

        written = write_sheets(opened)
        console.print(f"{len(written)} contact sheets: {written[0]} ..." if written else "No sequence has an animal.")
