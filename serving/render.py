"""Pages: templates, and who may see them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import FormData

from pusa import __version__
from pusa.report.cards import span
from serving.access import Role, Who, check_origin
from serving.problems import Problem
from serving.shelf import Contents, name_token

Body = Callable[[], Awaitable[Response]]

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,  # names of files, places and individuals are not ours
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals |= {"name_token": name_token, "span": span, "version": __version__}
_TEMPLATES.filters |= {
    "percent": lambda p: (
        "<\u00a01\u00a0%" if 0 < p < 0.01 else ">\u00a099\u00a0%" if 0.99 < p < 1 else f"{100 * p:.0f}\u00a0%"
    ),
    "moment": lambda time: f"{time:%Y-%m-%d, %H:%M}" if time else "no time",
    "clock": lambda seconds: f"{dt.datetime.fromtimestamp(seconds):%Y-%m-%d, %H:%M}",
    "counted": lambda n, one, many=None: f"{n:,} {one if n == 1 else many or one + 's'}",
}


class Login(Exception):
    """Nobody that is known: to the page that asks for a key."""


def reader(request: Request, role: Role = "reader") -> Who:
    """Who reads a page. Raises Login, or Problem where they may not."""
    who = request.app.state.guard.who(request)
    if who is None:
        raise Login
    if not who.may(role):
        raise Problem(403, "Not allowed", f"This needs the role {role}; you are a {who.role}.")
    return who


async def posted(request: Request, role: Role = "reviewer") -> tuple[Who, FormData]:
    """Who sent a form, and what is in it. Raises Problem where it comes from another page."""
    check_origin(request)
    who = reader(request, role)
    form = await request.form(max_files=0, max_fields=5000)
    request.app.state.guard.check_token(request, who, str(form.get("csrf", "")))
    return who, form


def page(request: Request, template: str, who: Who | None, status: int = 200, /, **values: Any) -> HTMLResponse:
    """A page, or a part of one. Forms get an idempotency key: one that is sent twice counts once."""
    contents: Contents | None = request.app.state.here.shelf.contents() if who else None
    common = {"who": who, "path": request.url.path, "once": uuid.uuid4().hex, "contents": contents,
              "waiting": len(contents.undecided()) if contents else 0}  # fmt: skip
    html = _TEMPLATES.get_template(template).render(common | values)
    return HTMLResponse(html, status, {"cache-control": "no-store"})


def to(path: str, **query: str) -> RedirectResponse:
    """To another page, after a form."""
    more = "&".join(f"{k}={quote(v, safe='')}" for k, v in query.items() if v)
    return RedirectResponse(path + (f"{'&' if '?' in path else '?'}{more}" if more else ""), 303)


def error_page(request: Request, problem: Problem) -> Response:
    """A refusal as a page."""
    try:
        who = request.app.state.guard.who(request)
    except Problem:
        who = None
    found = page(request, "error.html", who, problem.status, problem=problem)
    found.headers.update(problem.headers)
    return found
