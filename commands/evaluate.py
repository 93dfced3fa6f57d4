"""`pusa evaluate`: a run measured against the truth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.pairs import pair

app = typer.Typer(help="Measure a run against the truth.", no_args_is_help=True)

RunFolder = Annotated[str, typer.Argument(help="Folder of a run that `pusa process` finished.")]
Verify = Annotated[bool, typer.Option(help="Measure identification with patches and key points, one by one, too.")]
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

    opened = Run(run)
    verification = VerifyConfig.of_run(opened.manifest()) if verify else None
    figures = evaluate_run(opened, truth, gallery, verification=verification)
    _print(f"{run} against {truth}", figures)


@app.command()
def sightings(
    run: RunFolder,
    truth: Truth,
    codebook: Annotated[str | None, typer.Option(help="Codebook in place of the run's.")] = None,
    verify: Verify = True,
    config: Annotated[Path | None, typer.Option(help="YAML with settings of the verification.")] = None,
) -> None:
    """Re-identification by photo and by sighting, left and right apart: archives of one animal a photo."""
    from pipelines.evaluate import evaluate_sightings
    from pusa import ranking
    from pusa.config import load_config
    from pusa.gallery.verify import VerifyConfig
    from pusa.records import Run

    opened = Run(run)
    settings = load_config(VerifyConfig, config) if config else VerifyConfig.of_run(opened.manifest())
    found = evaluate_sightings(opened, truth, codebook, settings if verify else None)
    figures: dict[str, Any] = {name: found.pop(name) for name in ("photos", "individuals", "without_pattern")}
    for level, queries in found.items():
        figures |= {f"queries {level}": len(queries.ranks), f"dropped {level} (no true match)": queries.dropped}
        for n in (1, 2, 3, 4, 5):
            share, low, high = ranking.top_n_interval(queries.ranks, n)
            figures[f"top-{n} {level}"] = f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    for level in ("by photo", "by sighting"):
        for way in ("key points alone", "RootSIFT alone"):
            if f"{level}, {way}" in found:
                pair = found[f"{level}, verified"].ranks, found[f"{level}, {way}"].ranks
                more, low, high = ranking.top_n_gain(*pair, 1)
                name = f"top-1 {level}, verified above {way}"
                figures[name] = f"{100 * more:+.1f} % ({100 * low:+.1f} to {100 * high:+.1f})"
    _print(f"{run} against {truth}", figures)


@app.command()
def reid(
    run: RunFolder,
    truth: Truth,
    codebook: Annotated[str | None, typer.Option(help="Codebook in place of the run's.")] = None,
    only: Annotated[str, typer.Option(help="Methods whose name has this word.")] = "",
    clear: Annotated[
        float,
        typer.Option(
            min=0,
            help="Only queries whose rings are so clear in a picture of theirs and in one of the same flank in the "
            "database; drawn archives only. From .5 on a person sees them.",
        ),
    ] = 0,
) -> None:
    """Table 3 of the paper: identification beside its baselines, by image and by encounter.

    Images with `split: database` in the COCO file are the database; without any, each image is compared with those of
    all other sequences.
    """
    from rich.console import Console
    from rich.table import Table

    from pipelines.reid import evaluate_reid
    from pusa.records import Run
    from pusa.reid import TOPS, Result

    console = Console(width=150)
    animals, rows = evaluate_reid(Run(run), truth, codebook, only, lambda name: console.print(f"{name} ..."), clear)
    table = Table("method", "grouping", "database", *(f"top-{n}" for n in TOPS), "top-1, 95 %", "mAP")
    table.add_column("by encounter: top-1, 95 %")
    table.add_column("top-5")

    def between(found: Result) -> str:
        _, low, high = found.top(1)
        return f"{100 * low:.1f} to {100 * high:.1f}"

    for row in rows:
        image, encounter = row.by_image, row.by_encounter
        table.add_row(
            row.method,
            "yes" if row.grouping else "no",
            "grouped" if row.grouped_gallery else "images",
            *(f"{100 * image.top(n)[0]:.1f}" for n in TOPS),
            between(image),
            f"{image.precision.mean():.3f}",
            f"{100 * encounter.top(1)[0]:.1f} ({between(encounter)})",
            f"{100 * encounter.top(5)[0]:.1f}",
        )
    first = rows[0].by_image
    table.title = (
        f"{run}: of {animals.queries} known animals in the photos of the queries {len(first.ranks) + first.dropped} "
        f"were found, {first.dropped} are not in the database; the rest are the queries; in %"
    )
    console.print(table)


@app.command()
def gallery(
    gallery: Annotated[str, typer.Argument(help="Folder of a gallery whose encounters have their true names.")],
    calibration: Annotated[
        Path | None,
        typer.Option(help="JSON of probabilities to measure; the gallery's own, or the starter's, if left out"),
    ] = None,
    tolerated: Annotated[float, typer.Option(help="Share of wrong names that a user tolerates.")] = 0.05,
    plot: Annotated[Path | None, typer.Option(help="Reliability diagram to write, PNG.")] = None,
) -> None:
    """Answers that may be "new": each encounter with and without its individual; with many unknown; later in time."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from pipelines.calibrate import evaluate
    from pusa.gallery import openset
    from pusa.gallery.calibration import Calibration
    from pusa.gallery.store import Gallery
    from pusa.gallery.verify import VerifyConfig

    opened = Gallery.open(gallery)
    used = Calibration.load(calibration) if calibration else opened.calibration or Calibration.starter()
    tops, rows = evaluate(opened, used, VerifyConfig(), tolerated, watch=lambda crops: track(crops, "comparing"))
    threshold = used.threshold(tolerated)
    console = Console(width=150, highlight=False)
    for n, (share, low, high) in tops.items():
        console.print(
            f"top-{n} of individuals that are there: {100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        )
    console.print(f"probabilities from {used.source}; names are accepted from {threshold:.3f} on")
    table = Table("split", *(name.replace("_", " ") for name in rows[0].figures))
    for row in rows:
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.figures.values()]
        table.add_row(row.split, *cells)
    console.print(table)
    for name in ("auc_new", "calibration_error", "misidentified"):
        low, high = openset.interval(name, rows[0].answers, threshold)
        console.print(f"{name.replace('_', ' ')}, with and without, 95 %: {low:.3f} to {high:.3f}")
    if plot:
        openset.draw(rows[0].answers, str(plot))


@app.command()
def catalogue(
    gallery: Annotated[str, typer.Argument(help="Folder of a gallery whose encounters have their true names.")],
    truth: Annotated[
        str | None, typer.Option(help="COCO file with `side`: the reviewer cannot compare a left with a right flank.")
    ] = None,
    verify: Annotated[bool, typer.Option(help="Compare points of the pictures, too.")] = True,
    calibration: Annotated[
        Path | None, typer.Option(help="JSON of `pusa catalogue calibrate`; the starter's if left out.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML with settings of the review.")] = None,
    questions: Annotated[int | None, typer.Option(help="Ask at most so many.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="File that keeps the pairs compared (.parquet).")] = None,
    sides: Annotated[bool, typer.Option("--sides", help="Sides are known, as the file of --truth says them.")] = False,
) -> None:
    """A catalogue from nothing with a simulated reviewer, beside plain thresholding and reviewing by similarity."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from pipelines.evaluate_catalogue import evaluate
    from pusa.catalogue.calibration import Calibrations
    from pusa.catalogue.pairs import ProposeConfig
    from pusa.catalogue.review import ReviewConfig
    from pusa.config import load_config
    from pusa.gallery.store import Gallery

    used = Calibrations.load(calibration) if calibration else Calibrations.starter()
    propose = ProposeConfig() if verify else ProposeConfig(verification=None)
    known, rows = evaluate(Gallery.open(gallery), used, propose, load_config(ReviewConfig, config), truth, sides=sides,
                           most=questions, kept=pairs, watch=lambda items: track(items, "comparing"))  # fmt: skip
    n = len(known.keys)
    table = Table("method", "wrong answers", "questions", "of encounters", "clusters", "animals", "error")
    by_flank = not math.isnan(rows[0].mean("left_error"))
    for name in (*(["left, right"] if by_flank else []), "adjusted Rand"):
        table.add_column(name)
    for row in rows:
        mean = row.mean
        cells = [f"{mean('questions'):.1f}", f"{mean('questions') / n:.1%}", f"{mean('clusters'):.1f}"]
        cells += [f"{mean('animals'):.1f}", f"{mean('count_error'):+.1%}"]
        cells += [f"{mean('left_error'):+.1%}, {mean('right_error'):+.1%}"] if by_flank else []
        cells += [f"{mean('adjusted_rand'):.3f}"]
        table.add_row(row.method, f"{row.error:.0%}", *cells)
    console = Console(width=150, highlight=False)
    console.print(f"{n} encounters of {len(set(known.names))} individuals")
    console.print(table)


@app.command()
def grouping(
    run: RunFolder,
    truth: Truth,
    descriptor: Annotated[
        list[Path] | None, typer.Option(help="YAML with settings of a descriptor to compare; may be repeated.")
    ] = None,
    fewest: Annotated[int, typer.Option(min=1, help="Only sequences with so many animals.")] = 1,
) -> None:
    """Every assignment on every descriptor: as found, with animals missing, with false detections, by size."""
    from rich.console import Console
    from rich.table import Table

    from pipelines.grouping import evaluate_grouping
    from pusa.config import load_config
    from pusa.grouping.descriptor import DescriptorConfig
    from pusa.records import Run

    settings = {file.stem: load_config(DescriptorConfig, file) for file in descriptor or ()}
    console = Console(width=150, highlight=False)
    table = Table("descriptor", "sequences", "assignment", "n", "Rand", "pooled", "adjusted", "purity", "perfect")
    table.add_column("adjusted, above greedy (95 %)")
    found = evaluate_grouping(Run(run), truth, settings, fewest, lambda name: console.print(f"{name} ..."))
    for name, kind, scores in found:
        paper = next(score for method, score in scores.items() if method.startswith("greedy"))
        for method, score in scores.items():
            f = score.figures
            names = ("rand_index", "pooled_rand_index", "adjusted_rand_index", "purity", "perfect")
            cells = (f"{f[measure]:.4f}" for measure in names)
            mean, low, high = score.above(paper)
            above = "" if score is paper else f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
            table.add_row(name, kind, method, str(f["sequences"]), *cells, above)
        table.add_section()
    console.print(table)


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


@app.command()
def segmentation(
    coco: Annotated[
        list[str], typer.Option(help="COCO file and folder of its photos, as FILE:FOLDER; may be repeated.")
    ],
    weights: Annotated[
        list[str], typer.Option(help="Detector to measure: a row of the table each; may be repeated.")
    ] = ["starter/segmentation"],  # noqa: B006
    config: Annotated[Path | None, typer.Option(help="YAML with settings of the detector.")] = None,
    worst: Annotated[Path | None, typer.Option(help="Page of the worst photos of the last one (.html).")] = None,
) -> None:
    """Detectors on photos with true masks: mAP without a threshold, F1 at the threshold, and the paper's F1."""
    import time
    from functools import partial

    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from pusa.config import load_config
    from pusa.report.detections import write_worst
    from pusa.segmentation.engine import open_segmenter
    from pusa.segmentation.evaluate import evaluate
    from pusa.segmentation.segmenter import SegmentationConfig
    from pusa.segmentation.train import read_all

    labelled = read_all(tuple(pair(text) for text in coco))
    table = Table("weights", "", "mAP", "AP .50", "precision", "recall", "F1", "F1 .50:.95", "paper's F1", "photos/s")
    for name in weights:
        settings = load_config(SegmentationConfig, config, {"weights": name})
        segmenter = open_segmenter(settings)
        began = time.perf_counter()
        found, judged = evaluate(segmenter, labelled, partial(track, description=name))
        pace = len(labelled) / (time.perf_counter() - began)
        for kind in ("mask", "box"):
            keys = ("map", "map50", "precision", "recall", "f1", "f1_mean", "f1_ap_ar")
            cells = (f"{found[f'{kind}_{key}']:.3f}" for key in keys)
            table.add_row(name if kind == "mask" else "", kind, *cells, f"{pace:.1f}" if kind == "mask" else "")
        if worst and name == weights[-1]:
            wrong = write_worst(worst, judged, name, settings.score_threshold)
            typer.echo(f"{worst}: {wrong} of {len(judged)} photos have an error.")
    console = Console(width=150, highlight=False)
    console.print(f"{found['photos']:.0f} photos, {found['animals']:.0f} animals; threshold {settings.score_threshold}")
    console.print(table)


def _print(title: str, figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:.3f}" if isinstance(value, float) else str(value))
    Console().print(table)
