"""`pusa synth OUT`: a synthetic archive with full truth, to try and to test everything on."""

from __future__ import annotations

from pathlib import Path

import typer


def synth(
    out: Path = typer.Argument(help="Folder to write, new or empty."),
    photos: int = typer.Option(60, help="Photos in all, at least 3 a sequence."),
    sequences: int = typer.Option(10, help="Sequences: photos of one place in one short time."),
    individuals: int = typer.Option(12, help="Individuals; most come back in several sequences."),
    seed: int = typer.Option(0, help="Same seed, same bytes."),
    preset: str = typer.Option(
        "shore", help="What the photos look like: shore, or shifted (other grounds, light, bodies)."
    ),
) -> None:
    """Make a synthetic archive: photos with EXIF, masks, identities and ring masks."""
    import os

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table

    from pusa.config import load_config
    from pusa.synthetic.archive import SynthConfig
    from pusa.synthetic.archive import synth as write

    values = {"photos": photos, "sequences": sequences, "individuals": individuals, "seed": seed, "preset": preset}
    config = load_config(SynthConfig, overrides=values)
    console = Console()
    columns = TextColumn("photos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("photos", total=config.photos)
        made = write(out, config, os.cpu_count() or 1, lambda n: bar.advance(task, n))
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
    console.print(f"Archive in [bold]{out}[/]: photos/, truth/, deployments.csv", highlight=False, soft_wrap=True)
    console.print(table)
