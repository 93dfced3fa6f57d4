"""`pusa codebook`: PCA and mixture, fitted to the patch embeddings of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pusa.errors import UserError

app = typer.Typer(help="The codebook behind Fisher vectors.", no_args_is_help=True)

RunFolder = Annotated[str, typer.Argument(help="Folder of a run that `pusa process` finished.")]
Seed = Annotated[int, typer.Option(help="Seed of the k-means start.")]
Address = Annotated[str, typer.Option(help="Ray cluster to use; `local` starts one on this machine.")]
Cpus = Annotated[int | None, typer.Option(help="Use only so many cores of this machine.")]


@app.command()
def fit(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="File to write the codebook to (.safetensors).")],
    dimensions: Annotated[int, typer.Option(help="Numbers a patch keeps after PCA.")] = 128,
    components: Annotated[int, typer.Option(help="Components of the mixture.")] = 512,
    iterations: Annotated[int, typer.Option(help="Iterations of EM at most; it ends where it gains little.")] = 100,
    seed: Seed = 0,
    address: Address = "local",
    cpus: Cpus = None,
) -> None:
    """Fit a codebook to all patches of a run."""
    from rich.console import Console

    from pipelines import cluster
    from pipelines.codebook import StoredPatches
    from pusa.config import load_config
    from pusa.fisher import codebook
    from pusa.records import Run

    opened = Run(run)
    manifest = opened.finished_manifest()
    console = Console(highlight=False)
    sizes = {"dimensions": dimensions, "components": components, "iterations": iterations}
    config = load_config(codebook.CodebookConfig, overrides=sizes)
    made_with = {kind: manifest["weights"][kind] for kind in ("pattern", "embedding") if kind in manifest["weights"]}

    def told(metrics: dict[str, float]) -> None:
        console.print(f"iteration {metrics['iteration']:.0f}: {metrics['log_likelihood']:.4f}")

    with cluster.connect(address, cpus), StoredPatches(opened) as patches:
        fitted = codebook.fit(patches, config, seed, made_with, told)
        console.print(f"{sum(patches.counts)} patches")
    console.print(f"{out}: {fitted.save(out)}")


@app.command()
def sweep(
    run: RunFolder,
    on: Annotated[str, typer.Option(help="Another run, whose encounters are identified.")],
    truth: Annotated[str, typer.Option(help="COCO file with masks and `identity` of the archive of --on.")],
    out: Annotated[Path, typer.Option(help="Picture to draw (.png).")],
    dimensions: Annotated[str, typer.Option(help="Numbers a patch keeps after PCA, with commas.")] = "64,128,256",
    components: Annotated[str, typer.Option(help="Components of the mixture, likewise.")] = "128,256,512",
    seed: Seed = 0,
    address: Address = "local",
    cpus: Cpus = None,
) -> None:
    """Choose dimensions and components as the paper did: fit each, and see how well it finds animals."""
    from rich.console import Console
    from rich.table import Table

    from pipelines import cluster
    from pipelines.codebook import sweep as run_sweep
    from pusa.fisher.codebook import draw_sweep
    from pusa.records import Run

    sizes = _numbers(dimensions), _numbers(components)
    console = Console(highlight=False)
    table = Table(
        "dimensions", "components", "top-1", "95 %", "top-5", "mAP", title=f"{on}, by encounter", title_justify="left"
    )
    found: dict[tuple[int, int], float] = {}
    with cluster.connect(address, cpus):
        for trial in run_sweep(Run(run), Run(on), truth, *sizes, seed):
            top, low, high = trial.top_1
            found[trial.dimensions, trial.components] = top
            console.print(f"{trial.dimensions} dimensions, {trial.components} components: top-1 {top:.3f}")
            table.add_row(
                str(trial.dimensions), str(trial.components), f"{top:.3f}", f"{low:.3f} to {high:.3f}",
                f"{trial.top_5:.3f}", f"{trial.mean_precision:.3f}",
            )  # fmt: skip
    console.print(table)
    draw_sweep(found, out)
    console.print(f"{out}: the same as a picture")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"Expected numbers with commas between them, such as 64,128; got {text!r}.") from None
