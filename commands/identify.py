"""`pusa identify`: the nearest known individuals of every encounter of a run."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Side = Literal["left", "right", "front", "back", "up", "down"]


def identify(
    run: Annotated[str, typer.Argument(help="Folder of a run that `pusa process` finished.")],
    gallery: Annotated[str, typer.Option(help="Folder of the gallery: local, s3:// or gs://.")],
    top: Annotated[int, typer.Option(min=1, help="Candidates of each encounter.")] = 5,
    verify: Annotated[
        bool, typer.Option(help="Compare patches and key points of the nearest ones' pictures, too.")
    ] = True,
    new_share: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="Of the encounters, how many you expect to be new animals.")
    ] = 0.5,
    place: Annotated[
        list[str] | None, typer.Option(help="Compare only with encounters of this place; may be repeated.")
    ] = None,
    from_year: Annotated[
        int | None, typer.Option(min=1, help="Compare only with what was seen in this year or later.")
    ] = None,
    to_year: Annotated[int | None, typer.Option(min=1, help="Compare only with what was seen until this year.")] = None,
    side: Annotated[Side | None, typer.Option(help="Compare only with encounters that show this side.")] = None,
) -> None:
    """Compare the encounters of a run with the individuals of a gallery."""
    from rich.console import Console
    from rich.progress import track

    from pipelines.identify import identify as run_identify
    from pusa.gallery.candidate_set import CandidateSet
    from pusa.gallery.verify import VerifyConfig
    from pusa.records import Run

    among = CandidateSet(places=tuple(place or ()), first_year=from_year, last_year=to_year, side=side)
    verification = VerifyConfig() if verify else None
    counts = run_identify(
        Run(run), gallery, top, verification, new_share, lambda crops: track(crops, "comparing"), among
    )
    console = Console(highlight=False)
    console.print(
        f"{counts['compared']} of {counts['encounters']} encounters compared with {counts['individuals']} individuals; "
        f"{counts['without_pattern']} have no pattern and cannot be compared.",
        soft_wrap=True,
    )
    if counts["candidate_set"] != "all":
        console.print(f"Compared only with {counts['searched']} encounters: {counts['candidate_set']}.", soft_wrap=True)
    if "calibration" in counts:
        console.print(f"The probabilities come from {counts['calibration']}.", soft_wrap=True)
    console.print(f"Next: pusa report {run} --gallery {gallery}", soft_wrap=True)
