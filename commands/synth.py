"""`pusa synth OUT`: a synthetic archive with full truth, to try and to test everything on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write: new, empty, or begun with the same settings.")],
    preset: Annotated[
        str,
        typer.Option(
            help="demo, train, train-returning, test-shifted, hard, paper, paper-grouping, paper-segmentation."
        ),
    ] = "demo",
    config: Annotated[Path | None, typer.Option(help="YAML with settings of your own, in place of a preset.")] = None,
    photos: Annotated[int | None, typer.Option(help="Photos in all.")] = None,
    sequences: Annotated[int | None, typer.Option(help="Photos of one place in one short time.")] = None,
    individuals: Annotated[int | None, typer.Option(help="Individuals.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same bytes.")] = None,
    renderer: Annotated[str | None, typer.Option(help="a: to train on. b: to test on, never trained on.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster that draws (OUT must be a shared folder); else this machine alone.")
    ] = None,
) -> None:
    """Make a synthetic archive: photos with EXIF, masks, identities, ring masks. An interrupted one is resumed."""
    import contextlib
    import os

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table

    from pusa.config import load_config
    from pusa.synthetic import archive, settings

    flags = {
        "photos": photos, "sequences": sequences, "individuals": individuals, "seed": seed, "renderer": renderer
    }  # fmt: skip
    overrides: dict[str, Any] = {key: value for key, value in flags.items() if value is not None}
    if renderer is not None:
        overrides["look"] = {}  # the settings of a preset's look belong to its own renderer
    chosen = load_config(settings.SynthConfig, config or settings.preset(preset), overrides)
    console = Console()
    columns = TextColumn("photos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with contextlib.ExitStack() as stack:
        each = archive.processes(os.cpu_count() or 1)
        if address is not None:
            from pipelines import cluster
            from pipelines.synth import cluster_tasks

            stack.enter_context(cluster.connect(address))
            each = cluster_tasks
        bar = stack.enter_context(Progress(*columns, console=console, disable=not console.is_terminal, transient=True))
        task = bar.add_task("photos", total=chosen.photos + chosen.database)
        made = archive.synth(out, chosen, each, lambda n: bar.advance(task, n))
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    rows = {
        "photos": made.photos,
        "sequences": made.sequences,
        "individuals": made.individuals,
        "animals": made.instances,
    }
    for name, count in (rows | {f"  {side}": n for side, n in made.sides.items()}).items():
        table.add_row(name, str(count))
    where = f"Archive in [bold]{out}[/]: photos/, truth/, deployments.csv, settings.yaml"
    console.print(where, highlight=False, soft_wrap=True)
    console.print(table)
