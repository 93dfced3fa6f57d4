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
) -> None:
    """Fit a codebook to all patches of a run."""
    from rich.console import Console

    from pusa.config import load_config
    from pusa.fisher import codebook
    from pusa.records import Run

    opened = Run(run)
    manifest = opened.finished_manifest()
    embeddings = opened.embeddings()
    console = Console(highlight=False)
    console.print(f"{len(embeddings)} patches")
    config = load_config(codebook.CodebookConfig, overrides={"dimensions": dimensions, "components": components})
    made_with = {kind: manifest["weights"][kind] for kind in ("pattern", "embedding")}
    fitted = codebook.fit(
        embeddings,
        config,
        seed,
        made_with,
        lambda m: console.print(f"iteration {m['iteration']:.0f}: {m['log_likelihood']:.4f}"),
    )
    console.print(f"{out}: {fitted.save(out)}")
