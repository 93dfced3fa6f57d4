"""Pages: the door (key and session), the API's documentation, uploads and what becomes of them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, Response

from serving.access import COOKIE, SESSION_HOURS, Who, check_origin, needs
from serving.api import job_of, result_of, take
from serving.problems import Problem
from serving.render import Login, page, posted, reader, to
from serving.state import State
from serving.uploads import clean

router = APIRouter()


@router.get("/login")
def login(request: Request, failed: bool = False) -> Response:
    """Asks for a key."""
    return page(request, "login.html", None, failed=failed)


@router.post("/login")
async def enter(request: Request) -> Response:
    """A session for who has a key."""
    check_origin(request)
    form = await request.form(max_files=0, max_fields=5)
    keys = request.app.state.guard.keys
    who = keys.of(str(form.get("key", "")).strip())
    if who is None:
        return to("/login", failed="true")
    answer = to("/")
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    answer.set_cookie(COOKIE, keys.begin_session(who.name), int(SESSION_HOURS * 3600), httponly=True, secure=secure,
                      samesite="lax")  # fmt: skip
    return answer


@router.post("/logout")
async def leave(request: Request) -> Response:
    """Ends the session."""
    await posted(request, "reader")
    request.app.state.guard.keys.end_session(request.cookies.get(COOKIE, ""))
    answer = to("/login")
    answer.delete_cookie(COOKIE)
    return answer


@router.get("/docs")
def docs(request: Request) -> Response:
    """The API, to read and to try."""
    return page(request, "docs.html", reader(request))


@router.get("/upload")
def upload(request: Request) -> Response:
    return page(request, "upload.html", reader(request, "reviewer"))


@router.post("/upload")
async def send(
    request: Request,
    who: Annotated[Who, Depends(needs("reviewer"))],
    photos: Annotated[list[UploadFile], File()],
    sequences: Annotated[str, Form(pattern="^(one|folder|gap)$")] = "one",
    sequence: Annotated[str, Form(max_length=200)] = "",
    gap: Annotated[str, Form(pattern=r"^\d{1,6}(\.\d{1,3})?(s|min|h|d)$")] = "60min",
    once: Annotated[str | None, Form(max_length=100)] = None,
) -> Response:
    """Photos from the page; answers with the address of their job."""
    request.app.state.guard.check_token(request, who, request.headers.get("x-csrf-token"))
    settings = {"sequences": sequences, "sequence": clean(sequence) if sequence.strip() else "upload", "gap": gap,
                "enroll": True}  # fmt: skip
    job = await take(_here(request), photos, who, settings, once)
    return JSONResponse({"job": f"/jobs/{job.job_id}"}, 202)


@router.get("/jobs/{job_id}")
async def job(request: Request, job_id: str) -> Response:
    """How far a job is; its encounters when it is done."""
    who, here = reader(request), _here(request)
    found = job_of(here, job_id)
    result, albums = None, {}
    if found.state == "done":
        result = await asyncio.to_thread(result_of, here, found)
        run = here.jobs.run_of(job_id).key
        for e in result.encounters:
            albums[e.token] = await asyncio.to_thread(here.album.crops, (run, e.encounter_id))
    name = "job_state.html" if "hx-request" in request.headers and found.state != "done" else "job.html"
    answer = page(request, name, who, job=found, result=result, albums=albums)
    if "hx-request" in request.headers and found.state == "done":
        answer.headers["hx-refresh"] = "true"
    return answer


def _here(request: Request) -> State:
    return request.app.state.here


def register(app: Any) -> None:
    """Who is not known comes to the door."""

    @app.exception_handler(Login)
    async def _login(request: Request, error: Login) -> Response:
        if "hx-request" in request.headers:
            return Response(status_code=204, headers={"hx-redirect": "/login"})
        if request.method != "GET":
            raise Problem(401, "Session ended", "Enter again.")
        return to("/login")
