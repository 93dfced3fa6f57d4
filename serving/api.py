"""The HTTP API, /v1: for programs that send photos, and for tools that work with the catalogue."""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Header, Query, Response, UploadFile
from fastapi.responses import JSONResponse

from pusa import __version__, records
from pusa.gallery.candidate_set import CandidateSet
from pusa.gallery.index import ALL
from serving import among, answers, database
from serving.access import Who, bearer, needs
from serving.answers import ProblemDetails, Token
from serving.jobs import token_of
from serving.problems import Problem
from serving.review import Candidate
from serving.shelf import name_token
from serving.state import State, state_of
from serving.uploads import clean, receive

problems: dict[int | str, dict[str, Any]] = {
    code: {"model": ProblemDetails, "description": what}
    for code, what in {400: "Cannot be read", 401: "No key", 403: "Not allowed", 404: "There is no such thing",
                       409: "Not done: it would have no effect", 413: "Too large", 422: "Not understood",
                       503: "Too much to do; see Retry-After"}.items()
}  # fmt: skip
router = APIRouter(prefix="/v1", responses=problems, dependencies=[Depends(bearer)])

Reader = Annotated[Who, Depends(needs("reader"))]
Reviewer = Annotated[Who, Depends(needs("reviewer"))]
Admin = Annotated[Who, Depends(needs("admin"))]
Here = Annotated[State, Depends(state_of)]
Idempotency = Annotated[
    str | None,
    Header(max_length=200, description="The same request with the same key is carried out once, however often sent."),
]


@router.post("/identify", response_model=answers.Job, responses={202: {"model": answers.Job}}, tags=["identify"])
async def identify(
    here: Here,
    who: Reader,
    candidate_set: among.FormSet,
    photos: Annotated[list[UploadFile], File(description="Photos (jpg, png, tif, webp), or ZIPs of them.")],
    sequences: Annotated[Literal["one", "folder", "gap"], Form(description="What makes a sequence.")] = "one",
    sequence: Annotated[str, Form(max_length=200, description="Name of the sequence, for one.")] = "sequence",
    gap: Annotated[str, Form(pattern=r"^\d{1,6}(\.\d{1,3})?(s|min|h|d)$", description="Longest pause.")] = "60min",
    enroll: Annotated[bool, Form(description="Also put the encounters into the review queue (reviewers).")] = False,
    wait: Annotated[float | None, Query(ge=0, le=3600, description="Seconds to wait before a 202.")] = None,
    idempotency_key: Idempotency = None,
) -> Response:
    """Finds the animals in photos, groups them into encounters, and compares each with the gallery, or with a candidate
    set of it. What takes longer than `wait` is answered 202 with a job; ask for it at its `link`."""
    if enroll and not who.may("reviewer"):
        raise Problem(403, "Not allowed", f"To enroll needs the role reviewer; {who.name} is a {who.role}.")
    settings = {"sequences": sequences, "sequence": clean(sequence), "gap": gap, "enroll": enroll}
    settings["among"] = candidate_set.model_dump(mode="json")
    job = await take(here, photos, who, settings, idempotency_key)
    limit = here.config.limits.wait_seconds if wait is None else min(wait, here.config.limits.wait_seconds)
    done = await finished(here, job, limit)
    document = await asyncio.to_thread(job_answer, here, done, True)
    if done.state == "failed":
        raise Problem(500, "Not identified", done.error or "")
    code = 200 if done.state == "done" else 202
    headers = {"location": document.link} | ({"retry-after": "2"} if code == 202 else {})
    return JSONResponse(document.model_dump(mode="json"), code, headers)


async def take(
    here: State, photos: list[UploadFile], who: Who, settings: dict[str, Any], idempotency: str | None
) -> database.Job:
    """A new job, and a start on it."""
    if here.database.open_jobs() >= here.config.limits.jobs and not (
        idempotency and here.database.job_of(who.name, idempotency)
    ):
        raise Problem(503, "Too much to do", "Too many jobs are not finished. Send it again later.", Retry_After="30")
    job_id = secrets.token_hex(10)
    folder = here.jobs.folder(job_id)
    name = clean(photos[0].filename or "photo") + (f" and {len(photos) - 1} more" if len(photos) > 1 else "")

    def keep() -> database.Job:
        received, _ = receive(photos, folder / "photos", here.config.limits)
        return here.jobs.add(job_id, received, who.name, name, settings, idempotency)

    try:
        job = await asyncio.to_thread(keep)
    except BaseException:
        await asyncio.to_thread(here.jobs.discard, job_id)
        raise
    here.jobs.start(job.job_id)
    return job


async def finished(here: State, job: database.Job, seconds: float) -> database.Job:
    """The job when it is finished, or as it is after so many seconds."""
    end = asyncio.get_running_loop().time() + seconds
    while (left := end - asyncio.get_running_loop().time()) > 0:
        task = here.jobs.running.get(job.job_id)
        if task is not None:
            await asyncio.wait([task], timeout=left)
        found = here.database.job(job.job_id)
        if found is not None and found.state in ("done", "failed"):
            return found
        await asyncio.sleep(min(0.2, left))  # another process works on it
    return here.database.job(job.job_id) or job


@router.get("/jobs", response_model=list[answers.Job], tags=["identify"])
def jobs(here: Here, who: Reader) -> list[answers.Job]:
    """The last 50 jobs, the newest first."""
    return [job_answer(here, job) for job in here.database.jobs()]


@router.get("/jobs/{job_id}", response_model=answers.Job, tags=["identify"])
def job(here: Here, who: Reader, job_id: Token) -> answers.Job:
    """How far a job is, and its result when it is done."""
    return job_answer(here, job_of(here, job_id), True)


@router.delete("/jobs/{job_id}", status_code=204, tags=["identify"])
def remove(here: Here, who: Admin, job_id: Token) -> None:
    """Removes a finished job with its photos; not one whose encounters are in the gallery, which shows its pictures."""
    job = job_of(here, job_id)
    run = here.jobs.run_of(job_id).key
    if any(e.key[0] == run for e in here.shelf.contents().entries.values()):
        raise Problem(409, "Not removed", "Its encounters are in the gallery, which shows its pictures.")
    if not here.database.remove_job(job.job_id):
        raise Problem(409, "Not removed", f"It is {job.state}. Only a finished job can be removed.")
    here.jobs.discard(job_id)


def job_of(here: State, job_id: str) -> database.Job:
    """Raises Problem where there is none."""
    found = here.database.job(job_id)
    if found is None:
        raise Problem(404, "No such job")
    return found


def job_answer(here: State, job: database.Job, whole: bool = False) -> answers.Job:
    return answers.Job(
        job_id=job.job_id, name=job.name, state=job.state, stage=job.stage, done=job.done, total=job.total,  # type: ignore[arg-type]
        error=job.error, made=dt.datetime.fromtimestamp(job.made, dt.UTC), link=f"/v1/jobs/{job.job_id}",
        result=result_of(here, job) if whole and job.state == "done" else None,
    )  # fmt: skip


def result_of(here: State, job: database.Job) -> answers.Result:
    """What a job found, out of its run."""
    run = here.jobs.run_of(job.job_id)
    columns = [c for c in records.PHOTOS.names if c != "instances"]
    fields = ("instance_id", "box", "score", "mask", "side", "patch_boxes", "usable", "unusable_reason")
    table = run.read("photos", [*columns, *(f"instances.list.element.{f}" for f in fields)])
    photos = []
    for row, found in zip(table.drop_columns(["instances"]).to_pylist(), records.instances(table), strict=True):
        instances = [answers.Instance(**_instance(i)) for i in found]
        photos.append(answers.Photo(**row | {"name": row["path"], "instances": instances}))
    manifest, those = run.manifest(), CandidateSet(**job.settings.get("among", {}))
    ranked: dict[str, list[Candidate]] = {}
    for row in run.read("candidates").sort_by("rank").to_pylist():
        ranked.setdefault(row["encounter_id"], []).append(row)
    encounters = []
    for row in run.read("encounters", ["encounter_id", "sequence_id", "instance_ids", "n_patches"]).to_pylist():
        token = token_of((run.key, row["encounter_id"]))
        links = [f"/v1/encounters/{token}/crops/{n}" for n in range(len(row["instance_ids"]))]
        known = ranked.get(row["encounter_id"], [])
        told = candidate_fields(token, known, row, those)
        encounters.append(answers.Encounter(token=token, **row, pictures=links, **told))
    order = sorted(range(len(photos)), key=lambda i: photos[i].name)
    return answers.Result(photos=[photos[i] for i in order], encounters=encounters, weights=manifest["weights"],
                          gallery_version=manifest["gallery_version"], candidate_set=str(those),
                          searched=manifest.get("identified", {}).get("searched"))  # fmt: skip


def _instance(i: dict[str, Any]) -> dict[str, Any]:
    more = {"box": [float(v) for v in i["box"]], "patches": len(i["patch_boxes"] or ()), "usable": bool(i["usable"])}
    return i | more


def candidate_fields(
    token: str, candidates: list[Candidate], row: dict[str, Any], those: CandidateSet = ALL
) -> dict[str, Any]:
    """The answer's fields about candidates among `those`."""
    if not candidates:
        reason = "there is nobody to compare with" if row["n_patches"] else "none of its pictures has a pattern"
        return {"candidates": [], "reason": reason}
    listed = [
        answers.Candidate(
            **{name: c[name] for name in ("rank", "individual", "distance", "probability", "inliers")},
            picture=f"/v1/individuals/{name_token(c['individual'])}/picture",
            match=f"/v1/encounters/{token}/match/{c['rank']}{among.query(those)}",
        )
        for c in candidates
    ]
    return {"candidates": listed, "new_probability": candidates[0]["new_probability"]}


@router.get("/version", response_model=answers.Version, tags=["server"])
def version(here: Here, who: Reader) -> answers.Version:
    """Of this program, and the SHA-256 of the weights behind its answers."""
    return answers.Version(version=__version__, weights=here.jobs.digests, gallery=_about(here))


def _about(here: State) -> dict[str, str]:
    return {k: v for k, v in here.shelf.gallery.about.items() if k != "calibration"}
