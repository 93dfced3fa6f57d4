"""The API of the catalogue: individuals, encounters, decisions and exports."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import StreamingResponse

from pusa.gallery.enrolment import enroll as run_enroll
from pusa.gallery.journal import Decision
from serving import answers
from serving.access import bearer
from serving.among import AddressSet
from serving.answers import Token
from serving.api import Here, Idempotency, Reader, Reviewer, candidate_fields, job_of, problems
from serving.exports import FORMATS, Asked, Zip, attached, identities, zipped
from serving.jobs import token_of
from serving.problems import Problem
from serving.shelf import Contents, Entry, name_token

router = APIRouter(prefix="/v1", responses=problems, dependencies=[Depends(bearer)])


@router.post("/enroll", response_model=answers.Enrolled, tags=["catalogue"])
def enroll(
    here: Here, who: Reviewer, asked: answers.Enrolment, idempotency_key: Idempotency = None
) -> answers.Enrolled:
    """Adds the encounters of a finished job to the gallery."""
    job = job_of(here, asked.job_id)
    if job.state != "done":
        raise Problem(409, "Not finished", f"The job is {job.state}. Only a finished one can be enrolled.")
    run = here.jobs.run_of(job.job_id)
    known = set(run.read("encounters", ["encounter_id"])["encounter_id"].to_pylist())
    if foreign := sorted(set(asked.individuals) - known):
        raise Problem(422, "No such encounter", f"The job has no encounter {foreign[0]!r}.")
    counts = run_enroll(run, here.config.gallery) if known else {"enrolled": 0}
    made = []
    for name in sorted(set(asked.individuals.values())):
        contents = here.shelf.contents()
        wanted = [contents.entry(token_of((run.key, e))) for e, n in asked.individuals.items() if n == name]
        todo = [e for e in wanted if e.name != name]
        if todo:
            kind: Literal["same", "new"] = "same" if name in contents.individuals else "new"
            once = f"{idempotency_key}\0{name}" if idempotency_key else None
            made.append(here.desk.decide(who, kind, todo, once, individual=name, reason="enrolled with this name"))
    return answers.Enrolled(enrolled=counts["enrolled"], decisions=[d.decision_id for d in made])


@router.get("/individuals", response_model=list[answers.Individual], tags=["catalogue"])
def individuals(here: Here, who: Reader) -> list[answers.Individual]:
    """All known individuals."""
    return [individual_answer(name, seen) for name, seen in here.shelf.contents().individuals.items()]


@router.get("/individuals/{token}", response_model=list[answers.Encounter], tags=["catalogue"])
def individual(here: Here, who: Reader, token: Token) -> list[answers.Encounter]:
    """The encounters of an individual, in order of time."""
    contents = here.shelf.contents()
    return [entry_answer(e) for e in contents.individuals[contents.individual(token)]]


def individual_answer(name: str, seen: list[Entry]) -> answers.Individual:
    times = [t for e in seen for t in (e.taken_from, e.taken_to) if t]
    return answers.Individual(
        token=name_token(name), name=name, encounters=len(seen), first_seen=min(times, default=None),
        last_seen=max(times, default=None), picture=f"/v1/individuals/{name_token(name)}/picture",
    )  # fmt: skip


@router.get("/encounters", response_model=list[answers.Encounter], tags=["catalogue"])
def encounters(
    here: Here,
    who: Reader,
    state: Annotated[Literal["all", "undecided", "decided"], Query(description="Which ones.")] = "all",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> list[answers.Encounter]:
    """Enrolled encounters; the undecided ones in the order of the review queue."""
    contents = here.shelf.contents()
    if state == "undecided":
        found = [w.entry for w in here.desk.queue(contents)]
    else:
        found = [e for e in contents.entries.values() if state == "all" or e.verdict is not None]
    return [entry_answer(e) for e in found[offset : offset + limit]]


@router.get("/encounters/{token}", response_model=answers.Encounter, tags=["catalogue"])
async def encounter(here: Here, who: Reader, token: Token, candidate_set: AddressSet) -> answers.Encounter:
    """An enrolled encounter, with its candidates in the gallery as it is now, or in a candidate set of it."""
    contents = await asyncio.to_thread(here.shelf.contents)
    entry = contents.entry(token)
    candidates = await here.desk.candidates(entry.key, contents.version, candidate_set)
    crops = await asyncio.to_thread(here.album.crops, entry.key)
    links = [f"/v1/encounters/{token}/crops/{n}" for n in range(len(crops))]
    found = candidate_fields(token, candidates, {"n_patches": entry.n_patches}, candidate_set)
    return entry_answer(entry).model_copy(
        update={**found, "pictures": links, "instance_ids": [c.instance_id for c in crops]}
    )


def entry_answer(e: Entry) -> answers.Encounter:
    return answers.Encounter(
        token=e.token, encounter_id=e.key[1], sequence_id=e.sequence_id, individual=e.name, verdict=e.verdict,
        place=e.place, taken_from=e.taken_from, taken_to=e.taken_to, n_patches=e.n_patches,
    )  # fmt: skip


@router.get("/decisions", response_model=list[answers.Decided], tags=["catalogue"])
def decisions(
    here: Here,
    who: Reader,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 1000,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> list[answers.Decided]:
    """The journal: who decided what, the newest first."""
    contents = here.shelf.contents()
    return [decided(contents, d) for d in contents.decisions[::-1][offset : offset + limit]]


@router.post("/decisions", response_model=answers.Decided, status_code=201, tags=["catalogue"])
def decide(
    here: Here, who: Reviewer, asked: answers.DecisionRequest, idempotency_key: Idempotency = None
) -> answers.Decided:
    """Decides who an encounter is, or takes a decision back. It is signed with the name of the key."""
    contents = here.shelf.contents()
    entries = [contents.entry(token) for token in asked.encounters]
    fields = asked.model_dump(include={"individual", "other", "instance_id", "undoes", "reason"})
    made = here.desk.decide(who, asked.kind, entries, idempotency_key, **fields)
    return decided(here.shelf.contents(), made)


def decided(contents: Contents, d: Decision) -> answers.Decided:
    known = contents.catalogue
    effect = "undone" if d.decision_id in known.undone else "void" if d.decision_id in known.void else "holds"
    return answers.Decided(
        decision_id=d.decision_id, kind=d.kind, encounters=[token_of(k) for k in d.encounters],
        individual=d.individual, other=d.other, instance_id=d.instance_id, undoes=d.undoes, by=d.by,
        made_at=d.made_at, reason=d.reason, shown=list(d.shown), effect=effect,  # type: ignore[arg-type]
    )  # fmt: skip


Format = Annotated[str, Path(json_schema_extra={"enum": list(FORMATS)})]


class Csv(StreamingResponse):
    media_type = "text/csv"


@router.get("/exports/identities.csv", tags=["catalogue"], response_class=Csv)
def export_identities(here: Here, who: Reader) -> Response:
    """A table of what was decided: one row an encounter."""
    return Csv(identities(here.shelf.contents()), headers=attached("identities.csv"))


@router.get("/exports/{name}", tags=["catalogue"], response_class=Zip)
def export(here: Here, who: Reader, name: Format, asked: Annotated[Asked, Depends()]) -> Response:
    """What `pusa export` writes, as a ZIP: only names that are decided. Its notices are in notices.txt."""
    return zipped(here.shelf.gallery, name, asked)
