"""`pusa process`: the main job, from a folder of photos to a run with instances, patterns and encounters."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from commands.index import Archive, By, Deployments, Gap, Sequences, index_config, print_summary

if TYPE_CHECKING:
    from pipelines.process import ProcessConfig, Progress


def process(
    archive: Archive,
    *,
    out: Annotated[str, typer.Option(help="Folder of the run: local, s3:// or gs://.")],
    instances: Annotated[
        Path | None,
        typer.Option(
            help="Boxes and masks in place of the detector: COCO, MegaDetector, wildlife-datasets, SealID, Camtrap DP."
        ),
    ] = None,
    segmentation: Annotated[
        str | None,
        typer.Option(
            help="Detector: a file of `pusa train segmentation`, or detectron2's (.pth, .pkl); else the starter."
        ),
    ] = None,
    by: By = None,
    gap: Gap = None,
    sequences: Sequences = None,
    deployments: Deployments = None,
    config: Annotated[Path | None, typer.Option(help="YAML with settings of the stages.")] = None,
    address: Annotated[str, typer.Option(help="Ray cluster to use; `local` starts one on this machine.")] = "local",
    cpus: Annotated[int | None, typer.Option(help="Use only so many cores of this machine.")] = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Use so many GPUs; on a cluster they are asked for and waited for.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", help="Another run of the archive: only what rests on other settings is done again."),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say what would be done and by what; do nothing.")] = False,
) -> None:
    """Find the animals in an archive's photos, their patterns and encounters.

    Resumes a run that did not finish, and takes in photos that came to the archive since.
    """
    from pipelines import cluster
    from pipelines.process import ProcessConfig, begin
    from pipelines.process import process as run_process
    from pusa import weights
    from pusa.config import load_config

    console = Console()
    flags = index_config(by, gap, sequences, deployments).model_dump(mode="json", exclude_unset=True)
    overrides = {f"index.{key}": value for key, value in flags.items()}
    if segmentation:
        overrides["segmentation.weights"] = weights.absolute(segmentation)
    settings = load_config(ProcessConfig, config, overrides)
    given = str(instances) if instances else None
    if explain:
        _explain(archive, out, settings, given, source, address, cpus, gpus)
        return
    command = shlex.join(["pusa", *sys.argv[1:]])
    summary = begin(archive, out, settings, given, command, source)
    if summary:
        print_summary(summary, console)
    try:
        with cluster.connect(address, cpus, num_gpus=gpus), _gpus(address, gpus, console), _Line(console) as line:
            manifest = run_process(archive, out, settings, given, line, source)
    except BaseException:
        console.print(f"The run is not finished. Resume it with:\n  {command}", soft_wrap=True, highlight=False)
        raise
    print_counts(manifest, out, console)


def _explain(
    archive: str,
    out: str,
    settings: ProcessConfig,
    given: str | None,
    source: str | None,
    address: str,
    cpus: int | None,
    gpus: int | None,
) -> None:
    """Prints the plan for this machine, or for a cluster as it will be once the GPUs asked for have come."""
    from pipelines import cluster
    from pipelines.plan import explain

    if address == "local":
        there = cluster.of_this_machine()
    else:
        with cluster.connect(address):
            there = cluster.resources()
    table = Table(show_header=False, title="Plan", title_justify="left")
    cpus, gpus = cpus or int(there[0]), int(there[1]) if gpus is None else gpus
    for row in explain(archive, out, settings, given, cpus, gpus, source):
        table.add_row(*row)
    Console().print(table)


def _gpus(address: str, gpus: int | None, console: Console) -> AbstractContextManager[Any]:
    """The GPUs of a cluster, once they are there; on this machine nothing is waited for."""
    from pipelines import cluster

    if gpus is None or address == "local":
        return nullcontext()
    told: set[int] = set()

    def tell(there: int) -> None:
        if there not in told:
            told.add(there)
            console.print(f"{there} of {gpus} GPUs are there.")

    return cluster.gpus_of_cluster(gpus, tell)


class _Line:
    """A progress bar on a terminal; in a log a line at most twice a minute."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TimeRemainingColumn(), TextColumn("{task.fields[note]}"))  # fmt: skip
        self.bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.tasks: dict[str, Any] = {}
        self.told = time.monotonic()

    def __enter__(self) -> _Line:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, progress: Progress) -> None:
        if progress.stage not in self.tasks:
            self.tasks[progress.stage] = self.bar.add_task(progress.stage, total=progress.total, note="")
            if progress.before:
                self.console.print(f"{progress.before} of {progress.total} {progress.stage} were already done.")
        note = f"{progress.instances} instances, {progress.errors} errors" if progress.stage == "photos" else ""
        self.bar.update(self.tasks[progress.stage], completed=progress.done, note=note)
        if not self.console.is_terminal and time.monotonic() - self.told > 30:
            self.told = time.monotonic()
            self.console.print(f"{progress.stage}: {progress.done} of {progress.total} {note}")


def print_counts(manifest: dict[str, Any], out: str, console: Console) -> None:
    """The table at the end: what was found, and what to do next."""
    table = Table(show_header=False, title="Found", title_justify="left")
    for name, value in manifest["counts"].items():
        style = "red" if name == "errors" and value else None
        table.add_row(name.replace("_", " "), str(value), style=style)
    table.add_row("seconds", str(manifest["seconds"]))
    console.print(table)
    console.print(f"Next: pusa report {out}, or pusa identify {out} --gallery GALLERY", soft_wrap=True, highlight=False)
