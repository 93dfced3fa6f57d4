"""The measures of scale in one table: `make bench`, or `python benchmarks/scale.py FOLDER`.

Each script prints its rows, figures beside their goals; what a figure is compared with runs in the same script. About
ten minutes on two cores. They mean something on a machine that does nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

SCRIPTS = [["pipeline.py", "--photos", "80"], ["nodes.py", "--nodes", "4"]]


def tell(rows: Iterable[tuple[str, str, str]], as_json: bool) -> None:
    """Prints what a script measured: a table, or JSON for the table of all."""
    if as_json:
        print(json.dumps(list(rows)))
        return
    table = Table("what", "figure", "goal")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def main(folder: Path) -> int:
    table, failed = Table("measure", "what", "figure", "goal"), 0
    for script, *options in SCRIPTS:
        command = [sys.executable, str(Path(__file__).parent / script), str(folder / script.removesuffix(".py"))]
        done = subprocess.run([*command, *options, "--json"], stdout=subprocess.PIPE, text=True, check=False)
        rows = json.loads(done.stdout.splitlines()[-1]) if not done.returncode else [("failed", "", "")]
        failed += bool(done.returncode)
        for row in rows:
            table.add_row(script.removesuffix(".py"), *row)
        table.add_section()
    Console().print(table)
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
