"""`pusa serve`: the endpoint and the review pages, on this machine; and `pusa keys`: who may use them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Who may use the endpoint: a key for each person or program.", no_args_is_help=True)

Data = Annotated[str, typer.Option(help="The server's own folder: uploads with their results, keys.")]


def serve(
    gallery: Annotated[str | None, typer.Option(help="Folder of the gallery: local, s3:// or gs://.")] = None,
    data: Data = "pusa-data",
    config: Annotated[
        Path | None, typer.Option(help="Configuration such as serving/config.yaml, in place of the other options.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the configuration holds.")] = False,
    host: Annotated[str, typer.Option(help="Address to answer at; anything but this machine's own needs keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    cpus: Annotated[int | None, typer.Option(help="Use only so many cores of this machine.")] = None,
) -> None:
    """Answer queries over HTTP and show review pages, until Ctrl-C."""
    from serving.config import load, of_options, run

    asked = load(config) if config else of_options(gallery, data, host, port)
    if check:
        typer.echo("The configuration holds.")
        return
    run(
        asked, cpus, lambda address: typer.echo(f"Pusa answers at {address} (its API: {address}/docs). Ctrl-C ends it.")
    )


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Who will use it; decisions are signed with this name.")],
    role: Annotated[str, typer.Option(help="reader (looks), reviewer (decides, uploads), or admin.")] = "reviewer",
    data: Data = "pusa-data",
) -> None:
    """Make a key. It is shown once."""
    from serving.access import Keys
    from serving.database import Database

    typer.echo(Keys(Database(data)).add(name, role))
    typer.echo(f"This is the key of {name}, a {role}. It is shown only now and kept nowhere.", err=True)


@app.command("list")
def list_(data: Data = "pusa-data") -> None:
    """Show who has a key."""
    from serving.access import Keys
    from serving.database import Database

    for name, role, made, revoked in Keys(Database(data)).all():
        state = f"revoked {time.strftime('%F', time.localtime(revoked))}" if revoked else "holds"
        typer.echo(f"{name}\t{role}\tmade {time.strftime('%F', time.localtime(made))}\t{state}")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Whose key shall hold no longer.")], data: Data = "pusa-data"
) -> None:
    """Take a key back, with all sessions that it began."""
    from serving.access import Keys
    from serving.database import Database

    Keys(Database(data)).revoke(name)
    typer.echo(f"The key of {name} holds no longer.")
