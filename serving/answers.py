"""The documents that the API takes and gives."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pusa.gallery.journal import Kind

Text = Annotated[str, Field(max_length=200)]
Token = Annotated[str, Field(pattern=r"^[0-9a-f]{20}$")]


class Instance(BaseModel):
    """One animal in one photo. `box`: x0, y0, x1, y1 in px of the upright photo; `mask`: COCO's compressed RLE."""

    instance_id: str
    box: list[float]
    score: float | None
    mask: dict[str, object] | None
    side: str
    patches: int
    usable: bool
    unusable_reason: str | None


class Photo(BaseModel):
    """A photo as it was read; `error` says why it was not."""

    name: str
    sequence_id: str
    status: Literal["ok", "error", "new"]
    error: str | None
    duplicate_of: str | None
    taken_at: dt.datetime | None
    width: int | None
    height: int | None
    instances: list[Instance]


class Candidate(BaseModel):
    """An individual of the gallery that an encounter may show. `distance`: of Fisher vectors, 0 to 2; `probability`:
    calibrated; `inliers`: points that one map carries over (the verification)."""

    rank: int
    individual: str
    distance: float
    probability: float | None
    inliers: int | None
    picture: str  # links
    match: str


class Encounter(BaseModel):
    """One animal in one sequence. `new_probability`: that it is none of the gallery's. Where it has no
    `candidates`, `reason` says why."""

    token: str
    encounter_id: str
    sequence_id: str | None
    individual: str | None = None  # what was decided
    verdict: str | None = None
    place: str | None = None
    taken_from: dt.datetime | None = None
    taken_to: dt.datetime | None = None
    n_patches: int
    instance_ids: list[str] | None = None
    pictures: list[str] = []
    new_probability: float | None = None
    candidates: list[Candidate] | None = None
    reason: str | None = None


class Result(BaseModel):
    photos: list[Photo]
    encounters: list[Encounter]
    gallery_version: str
    candidate_set: str  # "all", or the places, years and side that were asked for
    searched: int | None  # encounters of the gallery in it; null where nothing was to be compared
    weights: dict[str, str]  # SHA-256


class Job(BaseModel):
    """A request with photos. `result` is there when it is done."""

    job_id: str
    name: str
    state: Literal["queued", "running", "done", "failed"]
    stage: str
    done: int
    total: int
    error: str | None
    made: dt.datetime
    link: str
    result: Result | None = None


class Enrolment(BaseModel):
    """Encounters of a job to be added to the gallery: all of them; with names where their animal is known."""

    model_config = ConfigDict(extra="forbid")
    job_id: Token
    individuals: dict[Text, Text] = Field({}, description="name by encounter_id; others go to the review queue")


class Enrolled(BaseModel):
    enrolled: int
    decisions: list[str]


class Individual(BaseModel):
    token: str
    name: str
    encounters: int
    first_seen: dt.datetime | None
    last_seen: dt.datetime | None
    picture: str


class DecisionRequest(BaseModel):
    """What each kind needs: see `pusa.gallery.journal.Decision`. `encounters` are tokens."""

    model_config = ConfigDict(extra="forbid")
    kind: Kind
    encounters: list[Token] = Field([], max_length=10_000)
    individual: Text | None = None
    other: Text | None = None
    instance_id: Text | None = None
    undoes: Text | None = None
    reason: Annotated[str, Field(max_length=2000)] = ""


class Decided(BaseModel):
    decision_id: str
    kind: str
    encounters: list[str]
    individual: str | None
    other: str | None
    instance_id: str | None
    undoes: str | None
    by: str
    made_at: dt.datetime
    reason: str
    shown: list[str]
    effect: Literal["holds", "undone", "void"]


class Version(BaseModel):
    version: str
    weights: dict[str, str]
    gallery: dict[str, str]  # its format, codebook and the weights behind it


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
