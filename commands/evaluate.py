"""`pusa evaluate`: a run measured against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Measure a run against the truth.", no_args_is_help=True)

RunFolder = Annotated[str, typer.Argument(help="Folder of a run that `pusa process` finished.")]
Verify = Annotated[bool, typer.Option(help="Measure identification with key points, too.")]
Truth = Annotated[str, typer.Option(help="COCO file with masks and `identity`; paths relative to the archive.")]


@app.command("run")
def run_(
    run: RunFolder,
    truth: Truth,
    gallery: Annotated[str | None, typer.Option(help="Measure the identification against this gallery, too.")] = None,
    verify: Verify = True,
) -> None:
    """Detection, grouping and identification of a labelled archive."""
    from pipelines.evaluate import evaluate_run
    from pusa.gallery.verify import VerifyConfig
    from pusa.records import Run

    figures = evaluate_run(Run(run), truth, gallery, verification=VerifyConfig() if verify else None)
    _print(f"{run} against {truth}", figures)


@app.command()
def sightings(
    run: RunFolder,
    truth: Truth,
    codebook: Annotated[str | None, typer.Option(help="Codebook in place of the run's.")] = None,
    verify: Verify = True,
    config: Annotated[Path | None, typer.Option(help="YAML with settings of the key points.")] = None,
) -> None:
    """Re-identification by photo and by sighting, left and right apart: archives of one animal a photo."""
    import numpy as np

    from pipelines.evaluate import evaluate_sightings
    from pusa import ranking
    from pusa.config import load_config
    from pusa.gallery.verify import VerifyConfig
    from pusa.records import Run

    settings = load_config(VerifyConfig, config) if verify else None
    found = evaluate_sightings(Run(run), truth, codebook, settings)
    figures: dict[str, Any] = {name: found.pop(name) for name in ("photos", "individuals", "without_pattern")}
    for level, queries in found.items():
        figures |= {f"queries {level}": len(queries.ranks), f"dropped {level} (no true match)": queries.dropped}
        for n in (1, 2, 3, 4, 5):
            share = ranking.top_n(queries.ranks, n)
            low, high = ranking.bootstrap_interval(ranking.hits(queries.ranks, n), np.random.default_rng(0))
            figures[f"top-{n} {level}"] = f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    _print(f"{run} against {truth}", figures)


@app.command()
def pattern(
    archive: Annotated[list[Path], typer.Option(help="Synthetic archive to measure on; may be repeated.")],
    tune: Annotated[Path, typer.Option(help="Training archive, on which the ridge filter is tuned.")],
    weights: Annotated[str, typer.Option(help="Weights of the U-Net.")] = "starter/pattern",
    crops: Annotated[int, typer.Option(help="At most so many crops of an archive, evenly spread.")] = 400,
    device: Annotated[str, typer.Option(help="Where the U-Net runs, such as cpu.")] = "auto",
) -> None:
    """The U-Net beside a ridge filter, and the filter of usable patterns; on crops with true masks."""
    from pusa.pattern.compare import compare
    from pusa.pattern.extract import PatternConfig

    config = PatternConfig(weights=weights, device=device)
    for folder, figures in compare(archive, tune, config, crops).items():
        _print(str(folder), figures)


def _print(title: str, figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:.3f}" if isinstance(value, float) else str(value))
    Console().print(table)
