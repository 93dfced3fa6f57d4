"""The stages as the web application calls them: through Serve's handles, or in its own process (tests, benchmarks)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from pusa.gallery.candidate_set import CandidateSet
from pusa.gallery.index import Query
from pusa.gallery.journal import Key
from serving.problems import Problem
from serving.settings import ServingConfig
from serving.workers import Answer, Describing, Detecting, Encoded, Identifying, Pair

T = TypeVar("T")
TRIES = 4  # of a call whose replica dies
PATIENCE = 600.0  # s that a call waits for room


class Fatal(Problem):
    """What was asked kills every replica that it comes to."""


class Stages(Protocol):
    """What each does: see `serving.workers`."""

    async def detect(self, photo: pa.Table, content: bytes) -> pa.Table: ...

    async def describe(self, photo: pa.Table) -> pa.Table: ...

    async def encode(self, photos: pa.Table) -> Encoded: ...

    async def identify(self, query: Query, among: CandidateSet) -> Answer: ...

    async def pair(self, query: Query, nearest: Key) -> Pair | None: ...

    async def version(self) -> str: ...


class Remote:
    """Stages behind handles of Serve. They are functions of their arguments, so a call whose replica died is made
    again; one that kills every replica it comes to is given up."""

    def __init__(self, detector: Any, describer: Any, identifier: Any) -> None:
        self.detector, self.describer, self.identifier = detector, describer, identifier

    async def detect(self, photo: pa.Table, content: bytes) -> pa.Table:
        return await self._call(lambda: self.detector.remote((photo, content)), "detector")

    async def describe(self, photo: pa.Table) -> pa.Table:
        return await self._call(lambda: self.describer.remote(photo), "describer")

    async def encode(self, photos: pa.Table) -> Encoded:
        return await self._call(lambda: self.identifier.encode.remote(photos), "identifier")

    async def identify(self, query: Query, among: CandidateSet) -> Answer:
        return await self._call(lambda: self.identifier.remote((query, among)), "identifier")

    async def pair(self, query: Query, nearest: Key) -> Pair | None:
        return await self._call(lambda: self.identifier.pair.remote(query, nearest), "identifier")

    async def version(self) -> str:
        return await self._call(self.identifier.version.remote, "identifier")

    async def _call(self, call: Callable[[], Awaitable[T]], name: str) -> T:
        from ray.exceptions import RayActorError, WorkerCrashedError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        deaths, waited = 0, 0.0
        while True:
            try:
                return await call()
            except (RayActorError, WorkerCrashedError) as e:
                deaths += 1
                if deaths == TRIES:
                    raise Fatal(503, "Cannot be done", f"The {name} died {TRIES} times at it.") from e
            except (BackPressureError, DeploymentUnavailableError) as e:
                if waited > PATIENCE:
                    detail = f"The {name} has had no room for {PATIENCE:g} seconds."
                    raise Problem(503, "Try again later", detail, Retry_After="30") from e
            pause = random.uniform(0.5, 1) * min(5.0, 0.5 + waited)
            waited += pause
            await asyncio.sleep(pause)


class Local:
    """Stages in this process, one call of each at a time, in threads."""

    def __init__(self, config: ServingConfig) -> None:
        self.detecting, self.describing = Detecting(config), Describing(config)
        self.identifying = Identifying(config)
        self._locks = {name: asyncio.Lock() for name in ("detect", "describe", "identify")}

    async def detect(self, photo: pa.Table, content: bytes) -> pa.Table:
        return (await self._call("detect", self.detecting, [(photo, content)]))[0]

    async def describe(self, photo: pa.Table) -> pa.Table:
        return (await self._call("describe", self.describing, [photo]))[0]

    async def encode(self, photos: pa.Table) -> Encoded:
        return await self._call("identify", self.identifying.encode, photos)

    async def identify(self, query: Query, among: CandidateSet) -> Answer:
        return (await self._call("identify", self.identifying, [(query, among)]))[0]

    async def pair(self, query: Query, nearest: Key) -> Pair | None:
        return await self._call("identify", self.identifying.pair, query, nearest)

    async def version(self) -> str:
        return await self._call("identify", self.identifying.version)

    async def _call(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        async with self._locks[name]:
            return await asyncio.to_thread(function, *arguments)
