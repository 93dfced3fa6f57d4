"""`pusa train`: the trainings of the networks. What they write can be used at once: --config, `weights: FILE`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.pairs import pair
from pusa.errors import UserError

if TYPE_CHECKING:
    from pusa.config import Config

app = typer.Typer(help="Train the networks on your own data, or on synthetic archives.", no_args_is_help=True)

Out = Annotated[Path, typer.Option(help="File to write the weights to (.safetensors).")]
Minutes = Annotated[float | None, typer.Option(help="End after so many minutes; the learning rate falls accordingly.")]
Settings = Annotated[Path | None, typer.Option(help="YAML with settings of the training.")]
Seed = Annotated[int, typer.Option(help="Seed of all that is random.")]
Workers = Annotated[int, typer.Option(help="Train on up to so many workers: GPUs where there are any, else cores.")]
Address = Annotated[str, typer.Option(help="Ray cluster to train on; `local` starts one on this machine.")]
Start = Annotated[str | None, typer.Option(help="Weights to fine-tune, such as starter/pattern; else from scratch.")]


def _train(
    training: tuple[type[Config], Callable[..., Any]],
    config: Path | None,
    out: Path,
    workers: int,
    address: str,
    **flags: Any,
) -> None:
    """Runs one training in Ray Train; the folder OUT.run beside the weights keeps its checkpoints."""
    from pipelines import cluster
    from pusa import weights
    from pusa.config import load_config
    from training.trainer import fit

    model, loop = training
    overrides = {key: value for key, value in flags.items() if value is not None and value != []}
    settings = load_config(model, config, overrides | {"out": str(out.resolve())})
    if (start := getattr(settings, "start", None)) and start not in ("imagenet", "scratch"):
        weights.find(start)  # an error here is one line
        settings = settings.model_copy(update={"start": weights.absolute(start)})  # workers have a folder of their own
    with cluster.connect(address, log_to_driver=True):
        _, gpus = cluster.resources()
        fit(loop, settings, out.with_suffix(".run"), gpus, workers)


@app.command()
def segmentation(
    coco: Annotated[
        list[str], typer.Option(help="COCO file and folder of its photos, as FILE:FOLDER; may be repeated.")
    ],
    out: Out,
    validation: Annotated[list[str], typer.Option(help="Likewise, held out; measured after each epoch.")] = [],  # noqa: B006
    start: Annotated[str | None, typer.Option(help="imagenet, or weights to fine-tune.")] = None,
    minutes: Minutes = None,
    config: Settings = None,
    seed: Seed = 0,
    workers: Workers = 1,
    address: Address = "local",
) -> None:
    """Train the detector on photos with masks."""
    from pusa.segmentation.train import SegmentationTraining, loop

    pairs = {name: [pair(text) for text in texts] for name, texts in (("coco", coco), ("validation", validation))}
    _train(
        (SegmentationTraining, loop), config, out, workers, address, **pairs, start=start, minutes=minutes, seed=seed
    )


@app.command()
def pattern(
    archive: Annotated[list[Path], typer.Option(help="Archive or folder to learn from; may be repeated.")],
    out: Out,
    validation: Annotated[list[Path], typer.Option(help="Likewise, held out; measured after each epoch.")] = [],  # noqa: B006
    start: Start = None,
    minutes: Minutes = None,
    config: Settings = None,
    seed: Seed = 0,
    workers: Workers = 1,
    address: Address = "local",
) -> None:
    """Train the pattern extraction on crops and ring masks: synthetic archives, or folders with crops/ and rings/."""
    from pusa.pattern.train import PatternTraining, loop

    folders = {
        name: [str(folder.resolve()) for folder in given]
        for name, given in (("archives", archive), ("validation", validation))
    }
    _train((PatternTraining, loop), config, out, workers, address, **folders, start=start, minutes=minutes, seed=seed)


@app.command("filter")
def filter_(
    archive: Annotated[list[Path], typer.Option(help="Archive that the network did not learn from; may be repeated.")],
    out: Out,
    pattern: Annotated[str, typer.Option(help="Weights of the U-Net whose patterns are judged.")] = "starter/pattern",
    crops: Annotated[int, typer.Option(help="At most so many crops of an archive.")] = 600,
) -> None:
    """Choose the threshold of a U-Net and fit the filter of its usable patterns; both are stored with it."""
    from pusa import weights
    from pusa.pattern import data
    from pusa.pattern.evaluate import calibrate
    from pusa.pattern.extract import PatternConfig, PatternExtractor

    extractor = PatternExtractor(PatternConfig(weights=pattern))
    examples = [e for a in archive for e in data.read(a, extractor.config.input_size, 0, crops, 0)]
    try:
        threshold, quality = calibrate(extractor, examples)
    except ValueError as e:
        raise UserError(f"The filter cannot be fitted: {e}. Give archives with easy and with hard photos.") from e
    stored = weights.load(pattern, "pattern")
    weights.save(
        out, "pattern", stored.settings | {"threshold": threshold, "quality": quality.model_dump()}, stored.tensors
    )
    typer.echo(f"{out}: rings from a probability of {threshold}; usable patterns from {quality.threshold:.2f}")


@app.command()
def whitening(
    run: Annotated[str, typer.Option(help="Folder of a finished run.")],
    truth: Annotated[str, typer.Option(help="COCO file with masks and `identity`; paths relative to the archive.")],
    out: Out,
    config: Annotated[Path | None, typer.Option(help="YAML with settings of the descriptor, if not the run's.")] = None,
    shrink: Annotated[
        float, typer.Option(min=0, max=1, help="Towards equal noise in all directions; 0 needs many more pairs.")
    ] = 0.2,
    dimensions: Annotated[int, typer.Option(min=1, help="Numbers of a descriptor that are kept.")] = 128,
    by_pca: Annotated[bool, typer.Option("--pca", help="PCA whitening, which takes no notice of identities.")] = False,
) -> None:
    """Learn which differences of descriptors mean another animal, from sequences with known identities."""
    from pipelines.grouping import pairs_of
    from pusa.config import load_config
    from pusa.grouping.descriptor import DescriptorConfig
    from pusa.grouping.whitening import discriminative, pca
    from pusa.records import Run

    opened = Run(run)
    opened.finished_manifest()
    sums = pairs_of(opened, truth, load_config(DescriptorConfig, config) if config else None)
    learnt = pca(sums) if by_pca else discriminative(sums, shrink)
    learnt.first(dimensions).save(out)
    typer.echo(f"{out}: learnt from {sums.pairs} pairs of {sums.count} instances.")
    typer.echo(f"Use it: `descriptor: {{whitening: {out}}}` in the --config of `pusa process`.")


@app.command()
def embedding(
    out: Out,
    seen: Annotated[
        list[str],
        typer.Option(help="Run and synthetic archive it processed, as RUN:ARCHIVE: learn from its patches too."),
    ] = [],  # noqa: B006
    named: Annotated[
        list[str],
        typer.Option(help="Run and names of its animals (as for `pusa gallery enroll`), RUN:FILE: learn from them."),
    ] = [],  # noqa: B006
    artificial: Annotated[list[Path], typer.Option(help="Set of artificial patches: learn from it too.")] = [],  # noqa: B006
    validation: Annotated[list[str], typer.Option(help="RUN:ARCHIVE held out; measured after each epoch.")] = [],  # noqa: B006
    paper: Annotated[bool, typer.Option("--paper", help="The paper's network and schedule, on --artificial.")] = False,
    start: Start = None,
    minutes: Minutes = None,
    config: Settings = None,
    seed: Seed = 0,
    workers: Workers = 1,
    address: Address = "local",
) -> None:
    """Train the patch network: on coats drawn for it, on synthetic archives, or on your own animals.

    With --named and no --config the starter goes on learning, for 800 steps, from your animals alone.
    """
    from pusa.embedding.train import OWN, PAPER, EmbeddingTraining, loop

    expected = "RUN:ARCHIVE, a run and the synthetic archive that it processed"
    given = {
        name: [pair(text, expected) for text in texts] for name, texts in (("seen", seen), ("validation", validation))
    }
    given["named"] = [pair(text, "RUN:FILE, a run and the names of its animals") for text in named]
    preset = PAPER if paper else OWN if named and not config else None
    flags = preset.model_dump(exclude_unset=True) if preset else {}
    flags |= given | {"artificial": [str(path.resolve()) for path in artificial]} | ({"start": start} if start else {})
    _train((EmbeddingTraining, loop), config, out, workers, address, **flags, minutes=minutes, seed=seed)


@app.command()
def marks(
    out: Out,
    seen: Annotated[list[str], typer.Option(help="Run and the synthetic archive it processed, as RUN:ARCHIVE.")] = [],  # noqa: B006
    named: Annotated[
        list[str],
        typer.Option(help="Run and names of its animals (as for `pusa gallery enroll`), RUN:FILE: learn from them."),
    ] = [],  # noqa: B006
    validation: Annotated[list[str], typer.Option(help="RUN:ARCHIVE held out; measured after each epoch.")] = [],  # noqa: B006
    start: Start = None,
    minutes: Minutes = None,
    config: Settings = None,
    seed: Seed = 0,
    workers: Workers = 1,
    address: Address = "local",
) -> None:
    """Train the network that describes key points: on synthetic archives, or on your own animals.

    With --named and no --config the network that describes the run's key points goes on learning, for 800 steps. Names
    may be those that `pusa catalogue build` guesses: RUN:CATALOGUE/individuals.csv.
    """
    from pusa.gallery.verify import VerifyConfig
    from pusa.marks.train import OWN, MarkTraining, loop
    from pusa.records import Run

    given = {
        "seen": [pair(text, "RUN:ARCHIVE, a run and the synthetic archive that it processed") for text in seen],
        "named": [pair(text, "RUN:FILE, a run and the names of its animals") for text in named],
        "validation": [pair(text, "RUN:ARCHIVE, a run and the archive that it processed") for text in validation],
    }
    flags: dict[str, Any] = {}
    if named and not config:
        flags = OWN.model_dump(exclude_unset=True)
        start = start or VerifyConfig.of_run(Run(str(given["named"][0][0])).manifest()).geometry.marks
    flags |= given | ({"start": start} if start else {})
    _train((MarkTraining, loop), config, out, workers, address, **flags, minutes=minutes, seed=seed)


@app.command()
def sides(
    out: Out,
    coco: Annotated[
        list[str],
        typer.Option(help="File of animals with a `side`, and folder of its photos, as FILE:FOLDER; may be repeated."),
    ] = [],  # noqa: B006
    found: Annotated[
        list[str], typer.Option(help="Run and such a file, as RUN:FILE: animals as the run found them. Better.")
    ] = [],  # noqa: B006
    validation: Annotated[list[str], typer.Option(help="RUN:FILE held out; measured after each epoch.")] = [],  # noqa: B006
    start: Start = None,
    minutes: Minutes = None,
    config: Settings = None,
    seed: Seed = 0,
    workers: Workers = 1,
    address: Address = "local",
) -> None:
    """Train the network that tells which side of an animal a photo shows."""
    from pusa.sides.train import SideTraining, loop

    runs = "RUN:FILE, a run and a file of animals with their sides"
    given = {"coco": [pair(text) for text in coco]}
    given |= {
        name: [pair(text, runs) for text in texts] for name, texts in (("found", found), ("validation", validation))
    }
    _train((SideTraining, loop), config, out, workers, address, **given, start=start, minutes=minutes, seed=seed)


@app.command()
def age(
    out: Out,
    run: Annotated[
        list[Path], typer.Option(help="Run whose patches are learnt; may be repeated. None: drawn coats.")
    ] = [],  # noqa: B006
    start: Start = None,
    minutes: Minutes = None,
    config: Settings = None,
    seed: Seed = 0,
    workers: Workers = 1,
    address: Address = "local",
) -> None:
    """Train AGE, the generator of artificial patches; draws sheets of them beside OUT."""
    from pusa.embedding.age import AgeTraining, loop

    runs = [str(folder.resolve()) for folder in run]
    _train((AgeTraining, loop), config, out, workers, address, runs=runs, start=start, minutes=minutes, seed=seed)


@app.command()
def patches(
    out: Annotated[Path, typer.Option(help="File to write the set to (.safetensors).")],
    age: Annotated[str, typer.Option(help="Weights of the generator: `pusa train age`.")],
    classes: Annotated[int, typer.Option(help="Classes; the paper has 100.")] = 100,
    patches: Annotated[int, typer.Option(help="Patches in all; the paper has 10,000.")] = 10_000,
    seed: Seed = 0,
) -> None:
    """Make a set of artificial patches with labels, for `pusa train embedding --artificial`."""
    from pusa.embedding.artificial import ArtificialConfig, make

    make(ArtificialConfig(age=age, classes=classes, patches=patches, seed=seed), out)
    typer.echo(f"{out}: {classes} classes of {patches // classes} patches")
