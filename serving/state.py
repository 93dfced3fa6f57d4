"""What all requests of a process share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
from fastapi import Request

from pusa.fisher.codebook import Codebook
from pusa.gallery.crops import of_encounters
from pusa.gallery.index import Query
from pusa.gallery.journal import Key
from pusa.gallery.store import Gallery
from pusa.records import Run
from serving.access import Guard
from serving.album import Album
from serving.database import Database
from serving.jobs import Jobs
from serving.review import Desk
from serving.settings import ServingConfig
from serving.shelf import Shelf
from serving.stages import Stages
from serving.workers import Pair


@dataclass(frozen=True)
class State:
    """Parts of the application."""

    config: ServingConfig
    database: Database
    stages: Stages
    shelf: Shelf
    album: Album
    jobs: Jobs
    desk: Desk
    guard: Guard

    async def pair(self, key: Key, nearest: Key) -> Pair | None:
        """What matches between an encounter, of a job or of the gallery, and one that stands for a candidate."""
        query = await asyncio.to_thread(self.shelf.query, key)
        if query is None:
            query = await asyncio.to_thread(self._query, key)
        return await self.stages.pair(query, nearest) if query.crops else None

    def _query(self, key: Key) -> Query:
        """An encounter of a job that is not enrolled."""
        codebook = Codebook.load(str(self.config.stages.encounters.codebook))
        settings = Gallery.open(self.config.gallery).verifying(self.config.verification)
        found = of_encounters(Run(key[0]), settings, codebook, {key[1]})
        return Query(key, np.zeros(0, np.float16), crops=list(found.get(key[1], {}).values()))


def state_of(request: Request) -> State:
    """The dependency."""
    return request.app.state.here
