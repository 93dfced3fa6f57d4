"""Capture histories for Program MARK (.inp; White & Burnham 1999) and for R's marked and RMark (CSV).

MARK: a record is the history, a blank, the frequency 1, a semicolon; the animal's name is a comment before it. R: the
column `ch` is text of equal length; read as a number it loses its leading zeros, so the companion script says how.
"""

from __future__ import annotations

from pusa.errors import UserError
from pusa.exchange.captures import Histories
from pusa.exchange.tables import csv_text

LINE = 240  # characters that MARK reads of a line


def inp(found: Histories, about: str = "") -> str:
    """The .inp file of one data set: live recaptures, one group. `about` begins it, as a comment."""
    first = f"/* {_comment(about)} */\n" if about else ""
    return first + "".join(_record(name, found.history(name)) for name in sorted(found.captures))


def _record(name: str, history: str) -> str:
    if len(history) + 5 > LINE:
        raise UserError(
            f"MARK reads {LINE} characters of a line; {len(history)} occasions are too many. Choose longer ones "
            "(--occasion month or year)."
        )
    record = f"/* {_comment(name)} */ {history} 1 ;\n"
    return record if len(record) <= LINE else f"/* {_comment(name)[: LINE - 8]} */\n{history} 1 ;\n"


def _comment(text: str) -> str:
    return " ".join(text.replace("*/", "* /").split())


def rmark_csv(found: Histories) -> str:
    """The data frame for process.data: ch, freq and the individual, all quoted."""
    rows = [{"ch": found.history(name), "freq": 1, "individual": name} for name in sorted(found.captures)]
    return csv_text(["ch", "freq", "individual"], rows, quoted=True)


def rmark_script(files: dict[str, Histories]) -> str:
    """Lines of R that read the CSV of each data set; `files` by name without .csv."""
    lines = ["# Read with ch as text: as a number it would lose its leading zeros."]
    for name, found in files.items():
        lines.append(f'{name} <- read.csv("{name}.csv", colClasses = c(ch = "character"))')
        gaps = ", ".join(f"{gap:g}" for gap in found.intervals)
        lines.append(f'# RMark: process.data({name}, model = "CJS", time.intervals = c({gaps}))')
        lines.append(f'# marked: process.data({name}, model = "cjs", time.intervals = c({gaps}))')
    return "\n".join(lines) + "\n"
