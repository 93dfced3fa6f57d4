"""`pusa catalogue`: individuals from encounters that nobody has named."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipelines.catalogue import Encounters
    from pusa.catalogue.review import Answer, Review
    from pusa.gallery.store import Gallery

app = typer.Typer(help="A catalogue from nothing: individuals from encounters without names.", no_args_is_help=True)

Where = Annotated[str, typer.Argument(help="Folder of the gallery: local, s3:// or gs://.")]
Out = Annotated[Path, typer.Option(help="Folder of the catalogue's tables and pictures.")]
By = Annotated[str, typer.Option(default_factory=getpass.getuser, show_default="you", help="Who decides.")]


@app.command()
def calibrate(
    gallery: Annotated[str, typer.Argument(help="Folder of a gallery whose encounters have names.")],
    out: Annotated[Path, typer.Option(help="File to write (.json).")],
    also: Annotated[
        list[str] | None, typer.Option(help="Another such gallery, whose pairs count as well; may be given repeatedly.")
    ] = None,
) -> None:
    """Fit the probabilities of pairs to a gallery whose animals are known and were seen several times."""
    from rich.progress import track

    from pipelines.catalogue import calibrate as run_calibrate
    from pusa.gallery.store import Gallery

    galleries = [Gallery.open(uri) for uri in (gallery, *(also or []))]
    found = run_calibrate(galleries, lambda items: track(items, "comparing"))
    found.save(out)
    typer.echo(f"{out}: {found.verified.source}")


@app.command()
def build(
    gallery: Where,
    *,
    out: Out,
    ask: Annotated[bool, typer.Option("--ask", help="Ask in the terminal, until you stop or nothing is left.")] = False,
    questions: Annotated[int, typer.Option(min=0, help="Questions to write, with a picture each.")] = 20,
    verify: Annotated[
        bool, typer.Option(help="Compare points of the nearest ones' pictures: better, some seconds an encounter.")
    ] = True,
    calibration: Annotated[
        Path | None, typer.Option(help="JSON of `pusa catalogue calibrate`; the starter's if left out.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML with settings of the review.")] = None,
    by: By,
) -> None:
    """Put the encounters of a gallery together into individuals, and say what to look at to be surer."""
    from pipelines import review
    from pusa.catalogue.count import by_flank, count
    from pusa.catalogue.evidence import shown
    from pusa.gallery.store import Gallery

    opened = Gallery.open(gallery)
    found, asking = _opened(opened, out, verify, calibration, config)
    if ask:
        _ask(opened, found, asking, out, by)
    review.write(out, opened, found, asking, questions)
    sizes = [len(m) for m in asking.clusters.members.values()]
    animals = count(sizes)
    open_ = len(asking.questions(10**9))
    echo = typer.echo
    echo(f"{len(found.keys)} encounters, {len(found.known.looks)} looks at pairs so far.")
    echo(
        f"{animals.again} individuals seen more than once; {animals.alone} encounters resemble no other, about "
        f"{animals.once:.0f} of these are animals seen once: {animals.animals:.0f} animals in all (95 %: "
        f"{animals.low:.0f} to {animals.high:.0f})."
    )
    flanks = shown(found.seen)
    if flanks.any():
        left, right = by_flank(asking.clusters.label, flanks)
        echo(
            f"By flank, each animal counted once: {left.animals:.0f} seen from the left ({left.low:.0f} to "
            f"{left.high:.0f}), {right.animals:.0f} from the right ({right.low:.0f} to {right.high:.0f})."
        )
    echo(f"{open_} questions are open." if open_ else "Nothing is left to ask.")
    echo(f"{out}/individuals.csv: who each encounter is. {out}/questions.csv: what to look at next.")
    if open_:
        echo(f"Next: pusa catalogue look {gallery} ENCOUNTER ENCOUNTER --same (or --different, --unknown), or --ask")
    echo(f"To take the names: pusa catalogue accept {gallery} --out {out}")


@app.command()
def look(
    gallery: Where,
    first: Annotated[str, typer.Argument(help="encounter_id, as questions.csv has it.")],
    second: Annotated[str, typer.Argument(help="encounter_id of the other one.")],
    *,
    same: Annotated[bool, typer.Option("--same", help="They show one animal.")] = False,
    different: Annotated[bool, typer.Option("--different", help="They show two.")] = False,
    unknown: Annotated[bool, typer.Option("--unknown", help="Nobody can say.")] = False,
    run: Annotated[str | None, typer.Option(help="Run of both, where several have such encounters.")] = None,
    by: By,
    reason: Annotated[str, typer.Option(help="Why, for whoever reads the journal.")] = "",
) -> None:
    """Say whether two encounters show one animal. It goes into the journal; `pusa gallery undo` takes it back."""
    from pipelines.review import answer
    from pusa.errors import UserError
    from pusa.gallery.store import Gallery
    from pusa.records import Run

    given = [word for word, said in (("same", same), ("different", different), ("unknown", unknown)) if said]
    if len(given) != 1:
        raise UserError("Expected one of --same, --different, --unknown.")
    opened = Gallery.open(gallery)
    keys = opened.keys([first, second], Run(run).key if run and Run(run).exists() else run)
    made = answer(opened, *keys, given[0], by, reason)  # type: ignore[arg-type, call-arg]
    typer.echo(f"{made.told()}: decision {made.decision_id[:8]}. `pusa catalogue build` takes it into account.")


@app.command()
def accept(
    gallery: Where,
    *,
    out: Out,
    verify: Annotated[bool, typer.Option(help="As for `build`.")] = True,
    calibration: Annotated[Path | None, typer.Option(help="As for `build`.")] = None,
    config: Annotated[Path | None, typer.Option(help="As for `build`.")] = None,
    by: By,
) -> None:
    """Give the encounters of the gallery the names of the catalogue. A later catalogue may change them again."""
    from pipelines import review
    from pusa.gallery.store import Gallery

    opened = Gallery.open(gallery)
    found, asking = _opened(opened, out, verify, calibration, config)
    made = review.accept(opened, found, asking.clusters, by)
    counts = opened.counts()
    typer.echo(
        f"{sum(len(d.encounters) for d in made)} encounters named. The gallery has {counts['individuals']} "
        f"individuals; {counts['without_name']} of {counts['encounters']} encounters have no name."
    )


def _opened(
    gallery: Gallery, out: Path, verify: bool, calibration: Path | None, config: Path | None
) -> tuple[Encounters, Review]:
    """The encounters and the review of them; pairs are kept in OUT/pairs.parquet."""
    from rich.progress import track

    from pipelines import catalogue, review
    from pusa.catalogue.calibration import Calibrations
    from pusa.catalogue.pairs import ProposeConfig
    from pusa.catalogue.review import ReviewConfig
    from pusa.config import load_config
    from pusa.errors import UserError

    settings = load_config(ReviewConfig, config)
    used = Calibrations.load(calibration) if calibration else Calibrations.starter()
    found = catalogue.encounters(gallery)
    if not found.keys:
        raise UserError(f"The gallery {gallery.uri} has no encounters. `pusa gallery enroll RUN` adds them.")
    propose = ProposeConfig() if verify else ProposeConfig(verification=None)
    pairs = catalogue.proposals(gallery, found, propose, out / "pairs.parquet", lambda i: track(i, "comparing"))
    return found, review.begin(found, pairs, used.verified if verify else used.distances, settings)


def _ask(gallery: Gallery, found: Encounters, asking: Review, out: Path, by: str) -> None:
    """Asks in the terminal, and writes each answer down before the next question."""
    from pipelines import review

    answers: dict[str, Answer] = {"s": "same", "d": "different", "c": "unknown"}
    while question := asking.question():
        a, b = (found.keys[i] for i in question.pair)
        picture = review.draw(out / "questions" / "now.jpg", gallery, (a, b))
        typer.echo(f"{a[1]} and {b[1]}{': ' + picture if picture else ''}")
        typer.echo(f"  It would {review.told(question, asking.clusters)} (probability {question.probability:.2f}).")
        given = ""
        while given not in (*answers, "q"):
            given = typer.prompt("  One animal? [s]ame, [d]ifferent, [c]annot say, [q]uit").strip().lower()[:1]
        if given == "q":
            return
        review.answer(gallery, a, b, answers[given], by)
        asking.answer(question.pair, answers[given])
