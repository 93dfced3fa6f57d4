"""The candidate set of a request: the places, years or the side that an encounter is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlencode

import pyarrow as pa
from fastapi import Depends, Form, Query, Request
from pydantic import Field, ValidationError

from pusa.errors import UserError
from pusa.gallery.candidate_set import CandidateSet, Side
from serving.problems import Problem
from serving.shelf import Contents
from serving.state import State, state_of

PLACE = "Compare only with encounters of this place; may be repeated."
FROM_YEAR = "Compare only with what was seen in this year or later."
TO_YEAR = "Compare only with what was seen until this year."
SIDE = "Compare only with encounters that show this side."

Year = Annotated[int, Field(ge=1, le=9999)]
Places = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=100)]


def checked(contents: Contents, among: CandidateSet) -> CandidateSet:
    """The same. Raises Problem where no named encounter of the gallery is in it."""
    if among == CandidateSet():
        return among
    columns = {
        "place": pa.string(),
        "taken_from": pa.timestamp("us"),
        "taken_to": pa.timestamp("us"),
        "side": pa.string(),
    }
    named = [e for seen in contents.individuals.values() for e in seen]
    about = pa.table({name: pa.array([getattr(e, name) for e in named], kind) for name, kind in columns.items()})
    try:
        among.members(about)
    except UserError as e:
        raise Problem(422, "Nobody to compare with", str(e)) from e
    return among


def _chosen(here: State, place: Sequence[str], first: int | None, last: int | None, side: Side | None) -> CandidateSet:
    among = CandidateSet(places=tuple(place), first_year=first, last_year=last, side=side)
    return checked(here.shelf.contents(), among)


def of_form(
    here: Annotated[State, Depends(state_of)],
    place: Annotated[Places, Form(description=PLACE, default_factory=list)],
    from_year: Annotated[Year | None, Form(description=FROM_YEAR)] = None,
    to_year: Annotated[Year | None, Form(description=TO_YEAR)] = None,
    side: Annotated[Side | None, Form(description=SIDE)] = None,
) -> CandidateSet:
    """Out of a form. Raises Problem where nobody is in it."""
    return _chosen(here, place, from_year, to_year, side)


def of_address(
    here: Annotated[State, Depends(state_of)],
    place: Annotated[Places, Query(description=PLACE, default_factory=list)],
    from_year: Annotated[Year | None, Query(description=FROM_YEAR)] = None,
    to_year: Annotated[Year | None, Query(description=TO_YEAR)] = None,
    side: Annotated[Side | None, Query(description=SIDE)] = None,
) -> CandidateSet:
    """Out of an address. Raises Problem where nobody is in it."""
    return _chosen(here, place, from_year, to_year, side)


def of_page(request: Request, contents: Contents) -> tuple[CandidateSet, str]:
    """Out of a page's address, where fields may be empty; and why nobody is in it, "" where somebody is."""
    given = request.query_params
    fields = {"first_year": given.get("from_year"), "last_year": given.get("to_year"), "side": given.get("side")}
    places = tuple(place for place in given.getlist("place") if place)
    try:
        among = CandidateSet(places=places, **{name: value for name, value in fields.items() if value})  # type: ignore[arg-type]
        return checked(contents, among), ""
    except ValidationError as e:
        first = e.errors()[0]
        return CandidateSet(), f"{first['input']!r} is not understood: {first['msg']}."
    except Problem as e:
        return among, e.detail


def query(among: CandidateSet) -> str:
    """What `of_address` reads, with its question mark; empty where all are in the set."""
    fields = {"place": among.places, "from_year": among.first_year, "to_year": among.last_year, "side": among.side}
    given = {name: value for name, value in fields.items() if value}
    return f"?{urlencode(given, doseq=True)}" if given else ""


FormSet = Annotated[CandidateSet, Depends(of_form)]
AddressSet = Annotated[CandidateSet, Depends(of_address)]
