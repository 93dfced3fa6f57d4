"""Refusals and errors, as RFC 9457 (problem details) tells them: what is wrong, and what to do; never a trace."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from pusa.errors import UserError

logger = logging.getLogger("pusa.serving")


class Problem(Exception):
    """A refusal, with its reason."""

    def __init__(self, status: int, title: str, detail: str = "", **headers: str) -> None:
        super().__init__(detail or title)
        self.status, self.title, self.detail = status, title, detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def answer(problem: Problem, **more: object) -> Response:
    content = {"type": "about:blank", "title": problem.title, "status": problem.status, "detail": problem.detail}
    return JSONResponse(content | more, problem.status, problem.headers, "application/problem+json")


def describe(app: FastAPI) -> None:
    """Says in the API's description that refusals are problems: FastAPI would call them application/json."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            for path in plain()["paths"].values():
                for operation in path.values():
                    for code, response in operation["responses"].items():
                        if code >= "400" and (content := response.get("content")):
                            response["content"] = {"application/problem+json": next(iter(content.values()))}
        return plain()

    app.openapi = described  # type: ignore[method-assign]


def register(app: FastAPI) -> None:
    """Every error of the app becomes a problem: as JSON for programs, as a page for readers of pages."""

    def told(request: Request, problem: Problem, **more: object) -> Response:
        page = getattr(request.app.state, "error_page", None)
        if page is not None and not request.url.path.startswith("/v1/") and "text/html" in request.headers.get(
            "accept", ""
        ):  # fmt: skip
            return page(request, problem)
        return answer(problem, **more)

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> Response:
        return told(request, error)

    @app.exception_handler(UserError)
    async def _user(request: Request, error: UserError) -> Response:
        return told(request, Problem(409, "Not done", str(error)))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [{"where": ".".join(map(str, e["loc"])), "what": e["msg"]} for e in error.errors()]
        detail = "; ".join(f"{e['where']}: {e['what']}" for e in errors[:3])
        return told(request, Problem(422, "Not understood", detail), errors=errors)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        headers = {name.replace("-", "_"): value for name, value in (error.headers or {}).items()}
        return told(request, Problem(error.status_code, str(error.detail), "", **headers))

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> Response:
        number = uuid.uuid4().hex[:8]
        logger.exception("error %s at %s %s", number, request.method, request.url.path, exc_info=error)
        detail = f"This is a fault of the server. Its log has the reason, under the number {number}."
        return told(request, Problem(500, "Internal error", detail))
