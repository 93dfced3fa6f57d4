"""Pages: the start, the review queue, and one encounter."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any, cast

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pusa.gallery.journal import Decision, Kind
from serving import among, pages_catalogue, pages_entry
from serving.album import matched
from serving.problems import Problem
from serving.render import error_page, page, posted, reader, to
from serving.review import last_of
from serving.shelf import Contents
from serving.state import State

router = APIRouter()
router.include_router(pages_entry.router)
router.include_router(pages_catalogue.router)
LISTED = 30  # encounters of the queue at once

__all__ = ["error_page", "router"]


@router.get("/")
def start(request: Request) -> Response:
    """Counts, what was done last, and where to go on."""
    who, here = reader(request), _here(request)
    contents = here.shelf.contents()
    counts = Counter(e.verdict or "undecided" for e in contents.entries.values())
    decisions = [d for d in reversed(contents.decisions) if d.kind != "undo"][:8]
    return page(request, "start.html", who, counts=counts, jobs=here.database.jobs(6), decisions=decisions)


@router.get("/review")
def queue(request: Request, offset: int = 0, decided: str = "") -> Response:
    """Undecided encounters, the most informative first."""
    who, here = reader(request), _here(request)
    contents = here.shelf.contents()
    waiting = here.desk.queue(contents)
    offset = max(0, min(offset, len(waiting)))
    part = waiting[offset : offset + LISTED]
    more = offset + LISTED if offset + LISTED < len(waiting) else None
    name = "queue_items.html" if "hx-request" in request.headers else "queue.html"
    return page(request, name, who, items=part, more=more, total=len(waiting),
                decided=_decision(contents, decided))  # fmt: skip


@router.get("/review/next")
def following(request: Request, after: str = "") -> Response:
    """The next encounter to look at; the queue's page where none is left."""
    reader(request)
    here = _here(request)
    contents = here.shelf.contents()
    entry = here.desk.after(contents, after or None)
    keep = among.query(among.of_page(request, contents)[0])
    return to(f"/review/{entry.token}{keep}" if entry else "/review")


@router.get("/review/{token}")
async def encounter(request: Request, token: str, decided: str = "") -> Response:
    """One encounter: its crops, and its candidates of a candidate set side by side with it."""
    who, here = reader(request), _here(request)
    contents = await asyncio.to_thread(here.shelf.contents)
    entry = contents.entry(token)
    crops = await asyncio.to_thread(here.album.crops, entry.key)
    those, refused = among.of_page(request, contents)
    candidates, stale = here.desk.kept(entry.key, contents.version, those)
    if refused:
        candidates, stale = [], False
    elif candidates is None:
        candidates, stale = await here.desk.candidates(entry.key, contents.version, those), False
    order = [w.entry.token for w in here.desk.queue(contents)]
    return page(
        request, "encounter.html", who, entry=entry, crops=crops, candidates=candidates, stale=stale,
        shares=_shares(candidates), out=contents.catalogue.crops.get(entry.key, set()),
        suggested=suggested(contents), decided=_decision(contents, decided),
        position=order.index(token) + 1 if token in order else None,
        total=len(order), previous=_before(order, token), last=last_of(contents, who.name),
        history=[d for d in contents.decisions if entry.key in d.encounters],
        those=those, keep=among.query(those), refused=refused, places=_places(contents),
    )  # fmt: skip


@router.get("/review/{token}/fresh")
async def fresh(request: Request, token: str) -> Response:
    """A part of the page: compares anew where the gallery has changed, and says so if that changes the answer. It does
    not change the page by itself: somebody's finger may be on a key."""
    who, here = reader(request), _here(request)
    contents = await asyncio.to_thread(here.shelf.contents)
    entry = contents.entry(token)
    those, _ = among.of_page(request, contents)
    before, _ = here.desk.kept(entry.key, contents.version, those)
    now = await here.desk.candidates(entry.key, contents.version, those)
    same = before is not None and [c["individual"] for c in before] == [c["individual"] for c in now]
    return page(request, "fresh.html", who, changed=not same, entry=entry, keep=among.query(those))


@router.get("/review/{token}/match/{rank}")
async def match(request: Request, token: str, rank: int) -> Response:
    """A part of the page: the encounter and a candidate side by side."""
    who, here = reader(request), _here(request)
    contents = await asyncio.to_thread(here.shelf.contents)
    entry = contents.entry(token)
    those, _ = among.of_page(request, contents)
    found = [c for c in here.desk.kept(entry.key, contents.version, those)[0] or [] if c["rank"] == rank]
    if not found:
        raise Problem(404, "No such candidate")
    pair = await here.desk.pair(entry.key, (found[0]["run"], found[0]["nearest"]))
    shown = await asyncio.to_thread(matched, pair) if pair else None
    return page(request, "match.html", who, match=shown, candidate=found[0], entry=entry)


@router.post("/review/{token}")
async def decide(request: Request, token: str) -> Response:
    """A decision about an encounter; then the next one."""
    who, form = await posted(request)
    here = _here(request)
    contents = await asyncio.to_thread(here.shelf.contents)
    entry, kind = contents.entry(token), str(form.get("kind", ""))
    if kind not in ("same", "new", "unknown", "not_animal", "other_animal"):
        raise Problem(422, "Not understood", f"{kind!r} is no decision about an encounter.")
    crop = str(form.get("instance_id") or "") or None
    name = str(form.get("individual") or "").strip()[:200] if kind in ("same", "new") else None
    reason = str(form.get("reason") or "")[:2000]
    those, _ = among.of_page(request, contents)
    made = await asyncio.to_thread(
        here.desk.decide, who, cast(Kind, kind), [entry], str(form.get("once") or "") or None, those,
        individual=name, instance_id=crop, reason=reason,
    )  # fmt: skip
    keep = among.query(those)
    if crop:  # the encounter itself is still to be decided
        return to(f"/review/{token}{keep}", decided=made.decision_id)
    following = here.desk.after(await asyncio.to_thread(here.shelf.contents), token)
    return to(f"/review/{following.token}{keep}" if following else "/review", decided=made.decision_id)


@router.post("/undo/{decision_id}")
async def undo(request: Request, decision_id: str) -> Response:
    """Takes a decision back, and shows what it was about."""
    who, form = await posted(request)
    here = _here(request)
    contents = await asyncio.to_thread(here.shelf.contents)
    about = _decision(contents, decision_id)
    once = str(form.get("once") or "") or None
    made = await asyncio.to_thread(here.desk.decide, who, "undo", [], once, undoes=decision_id)
    entries = [e for e in contents.entries.values() if about and e.key in about.encounters]
    back = f"/review/{entries[0].token}" if len(entries) == 1 else "/journal"
    return to(back, decided=made.decision_id)


def suggested(contents: Contents) -> str:
    """A name for a new individual that nobody has: the next number of those there."""
    known = {*contents.catalogue.known, *contents.catalogue.merged}
    numbered = [m for name in known if (m := re.fullmatch(r"(.*?)(\d+)", name))]
    prefix, digits = ("A", "000")
    if numbered:
        prefix = Counter(m[1] for m in numbered).most_common(1)[0][0]
        digits = max((m[2] for m in numbered if m[1] == prefix), key=int)
    number = int(digits) + 1
    while (name := f"{prefix}{number:0{len(digits)}d}") in known:
        number += 1
    return name


def _shares(candidates: list[dict[str, Any]]) -> list[tuple[str, float, str]]:
    """Parts of the bar: label, probability, kind."""
    if not candidates or candidates[0]["probability"] is None:
        return []
    parts = [(c["individual"], c["probability"], f"candidate-{c['rank']}") for c in candidates]
    new = candidates[0]["new_probability"]
    rest = max(0.0, 1 - new - sum(p for _, p, _ in parts))
    return [*parts, ("other individuals", rest, "rest"), ("new", new, "new")]


def _decision(contents: Contents, decision_id: str) -> Decision | None:
    return next((d for d in contents.decisions if d.decision_id == decision_id), None)


def _places(contents: Contents) -> list[str]:
    """Places where named animals were seen."""
    return sorted({e.place for seen in contents.individuals.values() for e in seen if e.place})


def _before(order: list[str], token: str) -> str | None:
    place = order.index(token) if token in order else 0
    return order[place - 1] if place else None


def _here(request: Request) -> State:
    return request.app.state.here
