"""`pusa index`: what is in an archive, before anything is processed."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from pusa.errors import UserError

if TYPE_CHECKING:
    from pipelines.index import IndexConfig, Summary

# The flags about photos and sequences; `pusa process` takes the same.
Archive = Annotated[str, typer.Argument(help="Folder of photos: local, s3:// or gs://.")]
By = Annotated[str | None, typer.Option(help="What makes a sequence: folder (the default), gap or csv.")]
Gap = Annotated[str | None, typer.Option(help="Cut sequences at pauses of a camera longer than this, such as 60min.")]
Sequences = Annotated[str | None, typer.Option(help="CSV (path, sequence_id), wildlife-datasets or Camtrap DP.")]
Deployments = Annotated[
    str | None, typer.Option(help="CSV (deployment_id, folder, place, clock_shift, ...), or Camtrap DP.")
]


def index(
    archive: Archive,
    *,
    out: Annotated[str | None, typer.Option(help="Folder of the run; without it nothing is written.")] = None,
    by: By = None,
    gap: Gap = None,
    sequences: Sequences = None,
    deployments: Deployments = None,
) -> None:
    """List the photos of an archive, their times, cameras and sequences."""
    from pipelines.index import index as run_index

    config = index_config(by, gap, sequences, deployments)
    with Progress(console=Console(stderr=True), transient=True, disable=not Console(stderr=True).is_terminal) as bar:
        task = bar.add_task("reading headers")
        summary = run_index(archive, out, config, lambda done, total: bar.update(task, completed=done, total=total))
    print_summary(summary, Console())


def index_config(by: str | None, gap: str | None, sequences: str | None, deployments: str | None) -> IndexConfig:
    """Settings from the flags: --gap and --sequences imply their --by. Raises UserError where they contradict."""
    from pipelines.index import IndexConfig
    from pusa.config import load_config

    implied = [name for name, flag in (("gap", gap), ("csv", sequences)) if flag is not None]
    if len({*implied, *([by] if by else [])}) > 1:
        raise UserError("Give one of --by folder, --gap and --sequences: they contradict each other.")
    by = by or (implied[0] if implied else "folder")
    if by == "csv" and sequences is None:
        raise UserError("--by csv needs --sequences FILE, a CSV with the columns path and sequence_id.")
    overrides = {"sequences.by": by, "sequences.csv": sequences, "deployments": deployments}
    return load_config(IndexConfig, overrides=overrides | ({"sequences.gap": gap} if gap is not None else {}))


def print_summary(summary: Summary, console: Console) -> None:
    """The counts and the distributions that a biologist wants."""
    from pusa.sequences import by_size

    sizes = sorted(summary.sequence_sizes.values())
    middle = sizes[len(sizes) // 2]
    console.print(
        f"[bold]{summary.photos} photos[/], {summary.readable} readable, {summary.without_time} without a time"
    )
    if summary.new < summary.photos:
        console.print(f"[bold]{summary.new} are new[/]; {summary.changed_sequences} sequences are new or change")
    console.print(f"[bold]{len(sizes)} sequences[/] of {sizes[0]} to {sizes[-1]} photos, median {middle}")
    _bars(console, "Photos by date", by_period(summary.by_date))
    _bars(console, "Sequences by number of photos", by_size(sizes))
    _bars(console, "Photos by camera", _most(summary.cameras))
    _bars(console, "Photos by deployment", _most(summary.deployments))
    for reason, count in summary.errors.items():
        console.print(
            f"[red]{count} unreadable[/]: {escape(f'{reason} ({summary.error_examples[reason]})')}", soft_wrap=True
        )
    if summary.other_files:
        kinds = ", ".join(f"{count} .{kind}" if kind else f"{count} without extension"
                          for kind, count in summary.other_files.items())  # fmt: skip
        console.print(f"Other files, not read: {escape(kinds)}", soft_wrap=True)
    for notice in summary.notices:
        console.print(f"[yellow]notice:[/] {escape(notice)}", soft_wrap=True)


def by_period(by_date: dict[dt.date, int], limit: int = 24) -> dict[str, int]:
    """Counts by day, month or year: the finest of which there are at most `limit`, from the first to the last.

    Days and months without photos are kept: a gap in them is news. By year, only years with photos.
    """
    if not by_date:
        return {}
    first, last = min(by_date), max(by_date)
    days = [first + dt.timedelta(days=i) for i in range(min((last - first).days + 1, limit * 32))]
    for form in ("%Y-%m-%d", "%Y-%m"):
        periods = dict.fromkeys((day.strftime(form) for day in days), 0)
        if len(periods) <= limit and last <= days[-1]:
            break
    else:
        form, periods = "%Y", {}
    for day, count in sorted(by_date.items()):
        periods[day.strftime(form)] = periods.get(day.strftime(form), 0) + count
    return periods


def _most(counts: dict[str, int], limit: int = 15) -> dict[str, int]:
    rest = list(counts.items())[limit:]
    return dict(list(counts.items())[:limit]) | ({f"{len(rest)} more": sum(n for _, n in rest)} if rest else {})


def _bars(console: Console, title: str, counts: dict[str, int]) -> None:
    """A bar chart in text, one row a name."""
    if not counts:
        return
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 1))
    longest = max(counts.values())
    for name, count in counts.items():
        table.add_row(
            name, str(count), "█" * max(round(30 * count / longest), count > 0), style=None if count else "dim"
        )
    console.print(table)
