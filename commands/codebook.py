"""`pusa codebook`: PCA and mixture, fitted to the patch embeddings of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The codebook behind Fisher vectors.", no_args_is_help=True)


@app.command()
def fit(
    run: Annotated[str, typer.Argument(help="Folder of a run that `pusa process` finished.")],
    out: Annotated[Path, typer.Option(help="File to write the codebook to (.safetensors).")],
    dimensions: Annotated[int, typer.Option(help="Numbers a patch keeps after PCA.")] = 128,
    components: Annotated[int, typer.Option(help="Components of the mixture.")] = 512,
    seed: Annotated[int, typer.Option(help="Seed of the k-means start.")] = 0,
    address: Annotated[str, typer.Option(help="Ray cluster to use; `local` starts one on this machine.")] = "local",
    cpus: Annotated[int | None, typer.Option(help="Use only so many cores of this machine.")] = None,
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
    config = load_config(codebook.CodebookConfig, overrides={"dimensions": dimensions, "components": components})
    made_with = {kind: manifest["weights"][kind] for kind in ("pattern", "embedding") if kind in manifest["weights"]}

    def told(metrics: dict[str, float]) -> None:
        console.print(f"iteration {metrics['iteration']:.0f}: {metrics['log_likelihood']:.4f}")

    with cluster.connect(address, cpus), StoredPatches(opened) as patches:
        fitted = codebook.fit(patches, config, seed, made_with, told)
        console.print(f"{sum(patches.counts)} patches")
    console.print(f"{out}: {fitted.save(out)}")
