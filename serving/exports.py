"""What was decided, as files to take away: a table of the identities, and the formats of `pusa export`."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import Query, Response
from pydantic import BeforeValidator, Field

from pusa.exchange.export import FORMATS, MASKED, Options, files_of
from pusa.gallery.contents import contents as contents_of
from pusa.gallery.journal import Decision, Key
from pusa.gallery.store import Gallery
from serving.problems import Problem
from serving.shelf import Contents

COLUMNS = ("run", "encounter_id", "sequence_id", "place", "taken_from", "taken_to", "side", "individual", "verdict",
           "decided_by", "decided_at")  # fmt: skip

Blank = BeforeValidator(lambda value: value or None)  # as a form sends what was left out
Text = Annotated[Annotated[str, Field(max_length=200)] | None, Blank]


def identities(contents: Contents) -> Iterator[str]:
    """One row an encounter about which somebody has decided: its individual, empty where nobody can say or there is no
    animal, and who decided it last."""
    last: dict[Key, Decision] = {}
    for d in contents.decisions:
        if d.decision_id not in contents.catalogue.undone | contents.catalogue.void and d.instance_id is None:
            last |= dict.fromkeys(d.encounters, d)
    yield _line(COLUMNS)
    for e in contents.entries.values():
        by = last.get(e.key)
        if e.verdict is not None and by is not None:
            times = (f"{t:%Y-%m-%dT%H:%M:%S}" if t else "" for t in (e.taken_from, e.taken_to))
            yield _line((*e.key, e.sequence_id, e.place, *times, e.side, e.name, e.verdict, by.by,
                         f"{by.made_at:%Y-%m-%dT%H:%M:%SZ}"))  # fmt: skip


def _line(values: tuple[str | None, ...]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(v or "" for v in values)
    return buffer.getvalue()


class Asked:
    """Dependency: what some formats want to know. No file of this machine can be named: occasions are periods, and
    deployments those of the runs."""

    def __init__(
        self,
        occasion: Annotated[
            Literal["day", "week", "month", "year"], Query(description="Occasions of capture histories.")
        ] = "month",
        side: Annotated[
            Literal["left", "right", "any"] | None,
            Blank,
            Query(description="Only this flank; `any` takes all encounters together. Left out: each apart."),
        ] = None,
        species: Annotated[Text, Query(description="For wildlife-datasets, COCO and Camtrap DP.")] = None,
        project: Annotated[Text, Query(description="Title of the project, for Camtrap DP.")] = None,
        contributor: Annotated[Text, Query(description="Whom to ask about the data, for Camtrap DP.")] = None,
        sampling: Annotated[
            Literal[
                "simpleRandom", "systematicRandom", "clusteredRandom", "experimental", "targeted", "opportunistic"
            ] | None,
            Blank,
            Query(description="How places were chosen, for Camtrap DP."),
        ] = None,
        capture: Annotated[
            Literal["activityDetection", "timeLapse"] | None,
            Blank,
            Query(description="What made the camera take a photo, for Camtrap DP."),
        ] = None,
    ) -> None:  # fmt: skip
        self.package = {"species": species, "project": project, "contributor": contributor, "sampling": sampling,
                        "capture": capture}  # fmt: skip
        self.options = Options(occasion, side, species, self._metadata())

    def _metadata(self) -> dict[str, Any]:
        """Of Camtrap DP."""
        p = self.package
        return {
            "title": p["project"],
            "contributors": [{"title": p["contributor"], "role": "contact"}],
            "project": {"title": p["project"], "samplingDesign": p["sampling"], "captureMethod": [p["capture"]]},
            "taxonomic": [{"scientificName": p["species"]}],
        }


class Zip(Response):
    media_type = "application/zip"


def zipped(gallery: Gallery, form: str, asked: Asked) -> Zip:
    """The files of a format, and notices.txt where there is something to know. Raises Problem where something is
    missing that only the user knows, and UserError where the gallery lacks what the format needs."""
    if form not in FORMATS:
        raise Problem(404, "No such export", f"Expected identities.csv or one of {', '.join(FORMATS)}.")
    missing = [name for name, value in asked.package.items() if not value]
    if form == "camtrap-dp" and missing:
        raise Problem(422, "Camtrap DP needs what only you know", f"Give {', '.join(missing)}, too.")
    files, notices = files_of(contents_of(gallery, masks=form in MASKED), form, asked.options)
    if notices:
        files = files | {"notices.txt": "\n".join(notices) + "\n"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as z:
        for name, text in files.items():
            z.writestr(name, text)
    return Zip(buffer.getvalue(), headers=attached(f"{form}.zip"))


def attached(name: str) -> dict[str, str]:
    """The header that makes a browser save a file."""
    return {"content-disposition": f'attachment; filename="{name}"'}
