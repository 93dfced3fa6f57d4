"""What carries over to another drawing: every stage's figure on renderer A and on renderer B, side by side.

    python benchmarks/shift.py OUT

Draws the same plan of 300 photos by both renderers (A with seed 2: animals and scenes that no training saw), processes
both with the starter weights, and prints one table. The gap between the columns is the headline.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipelines.evaluate import evaluate_run
from pusa.gallery.verify import VerifyConfig
from pusa.records import Run

ARCHIVES = {
    "A, seed 2": ("--renderer", "a", "--seed", "2"),
    "B, seed 0": (),
}
ROWS = {
    "detection": ("animals", "precision", "recall", "f1"),
    "pattern": ("pattern_iou", "pattern_precision", "pattern_recall", "pattern_f1", "pattern_cldice", "usable"),
    "patches found again": ("patch_queries", "patch_recall@1", "patch_map", "patch_chance"),
    "grouping": ("rand_index", "pooled_rand_index", "adjusted_rand_index", "perfect"),
    "identification": ("queries", "no_match", "individuals", "top_1", "top_3", "top_5"),
    "with key points": ("verified_top_1", "verified_top_3", "verified_top_5"),
}


def main(out: Path) -> None:
    found = {}
    for name, flags in ARCHIVES.items():
        folder = out / name[0]
        pusa("synth", str(folder / "archive"), "--preset", "test-shifted", *flags)
        pusa("process", str(folder / "archive" / "photos"), "--out", str(folder / "run"))
        truth = str(folder / "archive" / "truth" / "instances.json")
        found[name] = evaluate_run(Run(str(folder / "run")), truth, verification=VerifyConfig())
    table = Table("stage", "", *found, title="Renderer A, held out, and renderer B", title_justify="left")
    for stage, names in ROWS.items():
        for k, row in enumerate(names):
            values = [f[row] for f in found.values()]
            cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in values]
            table.add_row(
                stage if k == 0 else "",
                row.removeprefix("pattern_").removeprefix("patch_").removeprefix("verified_"),
                *cells,
            )
    Console().print(table)


def pusa(*arguments: str) -> None:
    print("$ pusa", *arguments, flush=True)
    subprocess.run([Path(sys.executable).parent / "pusa", *arguments], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
