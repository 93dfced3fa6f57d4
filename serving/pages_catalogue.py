"""Pages: individuals with their histories, merges and splits, the journal, and exports."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from serving.album import matched
from serving.exports import Asked, zipped
from serving.problems import Problem
from serving.render import page, posted, reader, to
from serving.shelf import Contents, Entry, name_token
from serving.state import State

router = APIRouter()
LISTED = 200  # decisions on a page
FACES = 120  # individuals at once


@dataclass(frozen=True)
class Tick:
    """A year of a time line, `x` in percent."""

    year: int
    x: float


@dataclass(frozen=True)
class Point:
    """An encounter on a time line: `x` in percent, `row` where several stand close together."""

    entry: Entry
    x: float
    row: int


def timeline(entries: list[Entry]) -> tuple[list[Tick], list[Point]]:
    """Whole years, and each encounter of known time among them."""
    timed = [e for e in entries if e.taken_from]
    if not timed:
        return [], []
    first = min(e.taken_from.year for e in timed if e.taken_from)
    last = max(e.taken_from.year for e in timed if e.taken_from) + 1
    begin, length = dt.datetime(first, 1, 1), dt.datetime(last, 1, 1) - dt.datetime(first, 1, 1)
    step = max(1, -(-(last - first) // 12))  # at most a dozen labels
    ticks = [Tick(y, 100 * ((dt.datetime(y, 1, 1) - begin) / length)) for y in range(first, last + 1, step)]
    points: list[Point] = []
    for e in timed:
        x = 100 * ((e.taken_from - begin) / length) if e.taken_from else 0.0
        row = sum(abs(p.x - x) < 2 for p in points)
        points.append(Point(e, round(x, 2), min(row, 4)))
    return ticks, points


@router.get("/individuals")
def individuals(request: Request, find: str = "", offset: int = 0) -> Response:
    """All individuals, or those whose name has a text in it."""
    who = reader(request)
    contents = _here(request).shelf.contents()
    names = [n for n in contents.individuals if find.casefold() in n.casefold()]
    offset = max(0, min(offset, len(names)))
    found = {n: contents.individuals[n] for n in names[offset : offset + FACES]}
    more = offset + FACES if offset + FACES < len(names) else None
    name = "individuals_items.html" if "hx-request" in request.headers else "individuals.html"
    return page(request, name, who, found=found, find=find, more=more)


@router.get("/individuals/{token}")
def individual(request: Request, token: str, decided: str = "") -> Response:
    """An individual: its encounters on a time line, what was decided about it; merge and split."""
    who = reader(request)
    contents = _here(request).shelf.contents()
    name = contents.individual(token)
    entries = contents.individuals[name]
    ticks, points = timeline(entries)
    former = sorted(n for n, into in contents.catalogue.merged.items() if into == name)
    keys = {e.key for e in entries}
    history = [d for d in contents.decisions if name in (d.individual, d.other) or keys & set(d.encounters)]
    made = next((d for d in contents.decisions if d.decision_id == decided), None)
    return page(request, "individual.html", who, name=name, token=token, entries=entries, ticks=ticks, points=points,
                former=former, history=history[::-1], decided=made)  # fmt: skip


@router.get("/individuals/{token}/merge")
def consider(request: Request, token: str, into: str = "") -> Response:
    """Both animals side by side, before a merge is confirmed."""
    who = reader(request, "reviewer")
    contents = _here(request).shelf.contents()
    gone = contents.individual(token)
    stays = into if into in contents.individuals else None
    if stays is None or stays == gone:
        raise Problem(422, "Merge with whom?", f"There is no other individual {into!r}. Choose one from the list.")
    return page(request, "merge.html", who, gone=gone, stays=stays, token=token)


@router.get("/individuals/{token}/merge/match")
async def match(request: Request, token: str, into: str = "") -> Response:
    """A part of the page: the two encounters with the most patches side by side."""
    who, here = reader(request, "reviewer"), _here(request)
    contents = await asyncio.to_thread(here.shelf.contents)
    both = [contents.individuals.get(name, []) for name in (contents.individual(token), into)]
    if not all(both):
        raise Problem(404, "No such individual")
    a, b = (max(seen, key=lambda e: (e.n_patches, e.token)) for seen in both)
    pair = await here.desk.pair(a.key, b.key)
    shown = await asyncio.to_thread(matched, pair) if pair else None
    candidate = {"individual": into, "inliers": pair.match.inliers if pair else 0}
    return page(request, "match.html", who, match=shown, candidate=candidate)


@router.post("/individuals/{token}/merge")
async def merge(request: Request, token: str) -> Response:
    """Two individuals are one animal; only with the second confirmation."""
    who, form = await posted(request)
    here = _here(request)
    contents = await asyncio.to_thread(here.shelf.contents)
    gone, stays = contents.individual(token), str(form.get("into", ""))
    if form.get("confirmed") != "yes":
        raise Problem(422, "Not confirmed", "A merge needs your second confirmation: tick that you compared both.")
    once = str(form.get("once") or "") or None
    reason = str(form.get("reason") or "")[:2000]
    made = await asyncio.to_thread(
        here.desk.decide, who, "merge", [], once, individual=gone, other=stays, reason=reason
    )
    return to(f"/individuals/{name_token(stays)}", decided=made.decision_id)


@router.post("/individuals/{token}/split")
async def split(request: Request, token: str) -> Response:
    """Some encounters of an individual are another animal."""
    who, form = await posted(request)
    here = _here(request)
    contents = await asyncio.to_thread(here.shelf.contents)
    name, other = contents.individual(token), str(form.get("other") or "").strip()[:200]
    entries = [contents.entry(str(t)) for t in form.getlist("encounter")]
    if not entries or not other:
        raise Problem(422, "Not understood", "Tick the encounters that show another animal, and give it a name.")
    once = str(form.get("once") or "") or None
    made = await asyncio.to_thread(here.desk.decide, who, "split", entries, once, individual=name, other=other)
    return to(f"/individuals/{name_token(other)}", decided=made.decision_id)


@router.get("/export")
def exports(request: Request) -> Response:
    """Which formats there are."""
    return page(request, "export.html", reader(request))


@router.get("/export/{name}")
def exported(request: Request, name: str, asked: Annotated[Asked, Depends()]) -> Response:
    """The files of a format. As in the API, but what is missing is told on a page."""
    reader(request)
    return zipped(_here(request).shelf.gallery, name, asked)


@router.get("/journal")
def journal(request: Request, offset: int = 0, decided: str = "") -> Response:
    """Who decided what, the newest first."""
    who = reader(request)
    contents: Contents = _here(request).shelf.contents()
    every = contents.decisions[::-1]
    offset = max(0, min(offset, len(every)))
    made = next((d for d in every if d.decision_id == decided), None)
    return page(request, "journal.html", who, decisions=every[offset : offset + LISTED], offset=offset,
                listed=LISTED, total=len(every), decided=made)  # fmt: skip


def _here(request: Request) -> State:
    return request.app.state.here
