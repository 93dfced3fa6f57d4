"""What LanceDB needs around it: connections that see what others write, writes that try again, conditions in SQL."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

import lancedb
from lancedb.table import Table

from pusa.errors import UserError
from pusa.gallery.journal import Key

TRIES = 30  # of a write that another process's write came before
PIECES = 50  # of a table, before they are joined
LARGE_PIECES = 1000  # of a table with much in a row: all of it is written anew

T = TypeVar("T")


def retried(write: Callable[[], T]) -> T:
    """What `write` returns; tried again where other processes wrote to the same table in the meantime. Raises UserError
    where it cannot be written, such as on a full disk: a write is whole or not at all."""
    for attempt in range(TRIES):
        try:
            return write()
        except (OSError, RuntimeError) as e:
            if attempt == TRIES - 1 or "conflict" not in str(e).lower():
                raise UserError(
                    f"Cannot write to the gallery: {first_line(e)} What was there is unharmed. Make room, or see "
                    "whether the folder can be written to, and give the same command again."
                ) from e
            time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 5)))
    raise AssertionError("unreachable")


def compact(table: Table, pieces: int = PIECES) -> None:
    """Joins the pieces of a table that many small writes left behind: each is opened at every read."""
    if table.stats()["fragment_stats"]["num_fragments"] <= pieces:  # type: ignore[index]  # a dict, whatever it says
        return
    try:
        table.optimize()
    except (OSError, RuntimeError, ValueError) as e:
        if "conflict" not in str(e).lower():  # another process is at it
            raise


def conditions(keys: Sequence[Key]) -> list[str]:
    """Conditions in SQL that together hold for rows of these keys; they are parsed, so each is for 500 at most."""
    by_run: dict[str, list[str]] = {}
    for run, encounter_id in sorted(keys):
        by_run.setdefault(run, []).append(quoted(encounter_id))
    return [
        f"run = {quoted(run)} AND encounter_id IN ({', '.join(ids[start : start + 500])})"
        for run, ids in by_run.items()
        for start in range(0, len(ids), 500)
    ]


def quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def connect(uri: str) -> lancedb.DBConnection:
    try:
        # Without the interval a table stays as it was when it was opened, whatever other processes write.
        return lancedb.connect(uri, read_consistency_interval=timedelta(0))
    except (OSError, RuntimeError, ValueError) as e:
        raise UserError(f"Cannot open the gallery {uri}: {first_line(e)}") from e


def tables_of(database: lancedb.DBConnection, uri: str) -> list[str]:
    try:
        return list(database.list_tables().tables)
    except (OSError, RuntimeError, ValueError) as e:
        raise UserError(f"Cannot open the gallery {uri}: {first_line(e)}") from e


def first_line(error: Exception) -> str:
    return str(error).splitlines()[0].split(", /")[0]
