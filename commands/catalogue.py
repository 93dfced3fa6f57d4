"""`pusa catalogue`: individuals from encounters that nobody has named."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="A catalogue from nothing: individuals from encounters without names.", no_args_is_help=True)

Where = Annotated[str, typer.Argument(help="Folder of the gallery: local, s3:// or gs://.")]


@app.command()
def calibrate(
    gallery: Annotated[str, typer.Argument(help="Folder of a gallery whose encounters have names.")],
    out: Annotated[Path, typer.Option(help="File to write (.json).")],
    pairs: Annotated[Path | None, typer.Option(help="File that keeps the pairs compared (.parquet).")] = None,
) -> None:
    """Fit the probabilities of pairs to a gallery whose animals are known and were seen several times."""
    from rich.progress import track

    from pipelines.catalogue import calibrate as run_calibrate
    from pusa.gallery.store import Gallery

    found = run_calibrate(Gallery.open(gallery), pairs, lambda items: track(items, "comparing"))
    found.save(out)
    typer.echo(f"{out}: {found.verified.source}")
