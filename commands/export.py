"""`pusa export`: a gallery in the formats of others."""

from __future__ import annotations

from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated

import typer

Format = Enum(  # type: ignore[misc]
    "Format",
    {name: name for name in ("camtrap-dp", "mark", "rmark", "secr", "oscr", "wildlife-datasets", "coco", "megadetector",
                             "csv")},
)  # fmt: skip


class Side(StrEnum):
    left = "left"
    right = "right"
    any = "any"


def export(
    gallery: Annotated[str, typer.Argument(help="Folder of the gallery: local, s3:// or gs://.")],
    *,
    format: Annotated[Format, typer.Option("--format", help="What to write.")],
    out: Annotated[str, typer.Option(help="File, or folder of a format that has several.")],
    deployments: Annotated[
        str | None, typer.Option(help="CSV of deployments or Camtrap DP, in place of those of the runs.")
    ] = None,
    occasion: Annotated[
        str,
        typer.Option(help="Occasions of histories: day, week, month, year, or a CSV (occasion, first, last)."),
    ] = "month",
    side: Annotated[
        Side | None, typer.Option(help="Only this flank; `any` takes all encounters together. Left out: each apart.")
    ] = None,
    species: Annotated[str | None, typer.Option(help="Name of the species, for wildlife-datasets and COCO.")] = None,
    metadata: Annotated[Path | None, typer.Option(help="YAML with what Camtrap DP asks for of the project.")] = None,
) -> None:
    """Write a gallery in the format of another program. Only names that are decided go out."""
    from rich.console import Console
    from rich.markup import escape

    from pusa.config import read_yaml
    from pusa.exchange import export
    from pusa.gallery.contents import contents_with
    from pusa.gallery.store import Gallery

    options = export.Options(occasion, side.value if side else None, species, read_yaml(metadata) if metadata else {})
    dataset = contents_with(Gallery.open(gallery), deployments, masks=format.value in export.MASKED)
    files, notices = export.files_of(dataset, format.value, options)
    console = Console(highlight=False, soft_wrap=True)
    for path in export.save(files, out):
        console.print(escape(path))
    named = dataset.named()
    console.print(f"{len({e.individual for e in named})} individuals in {len(named)} encounters, of "
                  f"{len(dataset.encounters)}; paths of photos are relative to {escape(dataset.root)}.")  # fmt: skip
    for notice in notices:
        console.print(f"[yellow]notice:[/] {escape(notice)}")
