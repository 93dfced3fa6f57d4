"""How often a network tells the side right, by the probability from which on it is told.

    python benchmarks/sides.py FILE:PHOTOS WEIGHTS ...

FILE: animals with a `side` (COCO, or another format of `pusa.exchange`), such as truth/instances.json of a drawn
archive, with the masks that it has of them. `pusa evaluate run` measures animals as a run has found them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pusa.records import FLANKS
from pusa.sides.find import SideConfig, SideFinder
from pusa.sides.network import KINDS, picture
from pusa.sides.train import read

LEAST = (0.0, 0.7, 0.8, 0.9, 0.95)


def main(file: Path, photos: Path, names: list[str]) -> None:
    animals = read(file, photos)
    true = np.array([side for *_, side in animals])
    flank = np.isin(true, FLANKS)
    table = Table("weights", "told from", "flanks told as such", "as the other one", "of the flanks told, right")
    for name in names:
        finder = SideFinder(SideConfig(weights=name))
        told = np.concatenate(
            [
                finder.probabilities([picture(grey, inside) for grey, inside, _ in animals[k : k + 256]])
                for k in range(0, len(animals), 256)
            ]
        )
        likeliest, sure = np.array(KINDS)[told.argmax(axis=1)], told.max(axis=1)
        for least in LEAST:
            says = (sure >= least) & np.isin(likeliest, FLANKS)
            right = says & (likeliest == true)
            shares = (right[flank].mean(), (says & ~right)[flank].mean(), right.sum() / max(says.sum(), 1))
            table.add_row(name, f"{least:g}", *(f"{share:.3f}" for share in shares))
    console = Console(width=120)
    console.print(f"{len(animals)} animals, {flank.sum()} of which show a flank")
    console.print(table)


if __name__ == "__main__":
    first, second = sys.argv[1].rsplit(":", 1)
    main(Path(first), Path(second), sys.argv[2:])
