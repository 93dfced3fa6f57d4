"""`pusa report`: the pages of a run or of a gallery, to look at in any browser."""

from __future__ import annotations

from typing import Annotated

import typer


def report(
    folder: Annotated[str, typer.Argument(help="A finished run, or a gallery: local, s3:// or gs://.")],
    *,
    gallery: Annotated[
        str | None,
        typer.Option(
            help="Of a run: gallery with the pictures of the candidates; the one `pusa identify` used if left out."
        ),
    ] = None,
    sheets: Annotated[
        bool, typer.Option("--sheets", help="Of a run: a contact sheet of each sequence, too: RUN/sheets/.")
    ] = False,
    deployments: Annotated[
        str | None, typer.Option(help="Of a gallery: CSV of deployments or Camtrap DP, in place of those of its runs.")
    ] = None,
) -> None:
    """Write report.html: what a run found, or the individuals of a gallery.

    Of a run: each encounter with its pictures, pattern and nearest individuals. Of a gallery: when and where
    individuals were seen, how fast new ones are found, how many are seen again; plots and tables are in
    GALLERY/report/, too.
    """
    from pusa.errors import UserError
    from pusa.gallery.store import Gallery
    from pusa.records import Run

    if Run(folder).exists() or not Gallery.exists(folder):
        if deployments:
            raise UserError("--deployments is for a gallery; a run has its deployments since `pusa process`.")
        _of_run(folder, gallery, sheets)
    elif gallery or sheets:
        raise UserError(f"{folder} is a gallery: --gallery and --sheets are for runs.")
    else:
        _of_gallery(folder, deployments)


def _of_gallery(uri: str, deployments: str | None) -> None:
    from pusa.gallery.contents import contents_with
    from pusa.gallery.store import Gallery
    from pusa.report.catalogue import write_catalogue_report

    found = contents_with(Gallery.open(uri), deployments, masks=False)
    files = write_catalogue_report(found, uri)
    typer.echo(files[0])
    typer.echo(f"{len(files) - 1} plots and tables in {files[1].rsplit('/', 1)[0]}")


def _of_run(uri: str, gallery: str | None, sheets: bool) -> None:
    from rich.console import Console

    from pusa.gallery.store import Gallery
    from pusa.records import Run
    from pusa.report.page import write_report

    opened = Run(uri)
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
