"""Pictures of encounters and individuals, and of what matches between them."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from pusa.gallery.journal import Key
from serving.access import bearer
from serving.album import Crop, match_jpeg
from serving.among import AddressSet
from serving.answers import Token
from serving.api import Here, Reader, problems
from serving.problems import Problem
from serving.state import State

router = APIRouter(prefix="/v1", responses=problems, dependencies=[Depends(bearer)])
PRIVATE = {"cache-control": "private, max-age=3600"}


class Jpeg(Response):
    media_type = "image/jpeg"


class Png(Response):
    media_type = "image/png"


Number = Annotated[int, Path(ge=0, le=1_000_000)]


def key_of(here: State, token: str) -> Key:
    """The key of an enrolled encounter or of one of a job. Raises Problem where there is none."""
    found = here.database.encounter(token)
    return found if found is not None else here.shelf.contents().entry(token).key


def _crop(here: State, token: str, number: Number) -> Crop:
    crops = here.album.crops(key_of(here, token))
    if not 0 <= number < len(crops):
        raise Problem(404, "No such picture", f"The encounter has {len(crops)}.")
    return crops[number]


@router.get("/encounters/{token}/crops/{number}", tags=["pictures"], response_class=Jpeg)
def crop(here: Here, who: Reader, token: Token, number: Number) -> Response:
    """A picture of an encounter, JPEG."""
    return Jpeg(_crop(here, token, number).picture, headers=PRIVATE)


@router.get("/encounters/{token}/crops/{number}/pattern", tags=["pictures"], response_class=Png)
def pattern(here: Here, who: Reader, token: Token, number: Number) -> Response:
    """The pattern in it, PNG: rings white where they are compared, grey where dropped."""
    found = _crop(here, token, number).pattern()
    if found is None:
        raise Problem(404, "No pattern", "None was found in this picture.")
    return Png(found, headers=PRIVATE)


@router.get("/encounters/{token}/thumbnail", tags=["pictures"], response_class=Jpeg)
def thumbnail(here: Here, who: Reader, token: Token) -> Response:
    """A small picture of an encounter, JPEG."""
    return _jpeg(here.shelf.thumbnail(here.shelf.contents().entry(token).key))


@router.get("/individuals/{token}/picture", tags=["pictures"], response_class=Jpeg)
def picture(here: Here, who: Reader, token: Token) -> Response:
    """A small picture of an individual, JPEG: from its encounter with the most patches."""
    contents = here.shelf.contents()
    best = max(contents.individuals[contents.individual(token)], key=lambda e: (e.n_patches, e.token))
    return _jpeg(here.shelf.thumbnail(best.key))


@router.get("/encounters/{token}/match/{rank}", tags=["pictures"], response_class=Jpeg)
async def match(here: Here, who: Reader, token: Token, rank: Number, candidate_set: AddressSet) -> Response:
    """What matches between an encounter and one of its candidates: two crops, a line for each pair of points, JPEG."""
    key = await asyncio.to_thread(key_of, here, token)
    kept = here.database.answer(key, candidate_set)
    chosen = [c for c in (kept[1] if kept else []) if c["rank"] == rank]
    if not chosen:
        raise Problem(404, "No such candidate")
    pair = await here.pair(key, (chosen[0]["run"], chosen[0]["nearest"]))
    if pair is None:
        raise Problem(404, "No matching points", "No points of the two match: the order is by distance alone.")
    return Jpeg(await asyncio.to_thread(match_jpeg, pair), headers=PRIVATE)


def _jpeg(content: bytes | None) -> Response:
    if content is None:
        raise Problem(404, "No picture")
    return Jpeg(content, headers=PRIVATE)
