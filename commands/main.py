"""Entry point of `pusa`: collects the commands and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console

import commands.catalogue
import commands.codebook
import commands.evaluate
import commands.export
import commands.gallery
import commands.identify
import commands.index
import commands.process
import commands.report
import commands.serve
import commands.synth
import commands.train
from pusa import __version__
from pusa.errors import UserError

app = typer.Typer(
    name="pusa",
    help="Photo-identification of ringed seals, and of any animal with a pattern, from raw photo archives.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("index")(commands.index.index)
app.command("synth")(commands.synth.synth)
app.command("process")(commands.process.process)
app.command("identify")(commands.identify.identify)
app.command("export")(commands.export.export)
app.command("report")(commands.report.report)
app.command("serve")(commands.serve.serve)
app.add_typer(commands.gallery.app, name="gallery")
app.add_typer(commands.catalogue.app, name="catalogue")
app.add_typer(commands.serve.app, name="keys")
app.add_typer(commands.codebook.app, name="codebook")
app.add_typer(commands.evaluate.app, name="evaluate")
app.add_typer(commands.train.app, name="train")


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Runs the command line: a UserError is one line and exit 2, an interrupt is exit 130."""
    try:
        app()
    except UserError as e:
        Console(stderr=True).print(f"[bold red]error:[/] {e}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `pusa ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
