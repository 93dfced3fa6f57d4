"""The Serve application: Web takes requests, and calls Detector, Describer and Identifier through handles.

Each is scaled, placed and given its share of a GPU on its own: see serving/config.yaml. Requests that come at the same
time are answered together (dynamic batching); each stage still works photo by photo, so numbers do not depend on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from pusa.config import load_config
from pusa.gallery.candidate_set import CandidateSet
from pusa.gallery.index import Query
from pusa.gallery.journal import Key
from serving.app import create_app
from serving.settings import ServingConfig
from serving.stages import Remote
from serving.workers import Answer, Describing, Detecting, Encoded, Identifying, Pair

BATCH: dict[str, Any] = {"max_batch_size": 4, "batch_wait_timeout_s": 0.005}


@serve.deployment(max_ongoing_requests=16, max_queued_requests=256)
class Detector:
    def __init__(self, config: ServingConfig) -> None:
        self.work = Detecting(config)

    @serve.batch(**BATCH)
    async def __call__(self, photos: list[tuple[pa.Table, bytes]]) -> list[pa.Table]:
        return await asyncio.to_thread(self.work, photos)


@serve.deployment(max_ongoing_requests=16, max_queued_requests=256)
class Describer:
    def __init__(self, config: ServingConfig) -> None:
        self.work = Describing(config)

    @serve.batch(**BATCH)
    async def __call__(self, photos: list[pa.Table]) -> list[pa.Table]:
        return await asyncio.to_thread(self.work, photos)


@serve.deployment(max_ongoing_requests=64, max_queued_requests=1024)
class Identifier:
    def __init__(self, config: ServingConfig) -> None:
        self.work = Identifying(config)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def __call__(self, questions: list[tuple[Query, CandidateSet]]) -> list[Answer]:
        return await asyncio.to_thread(self.work, questions)

    async def encode(self, photos: pa.Table) -> Encoded:
        return await asyncio.to_thread(self.work.encode, photos)

    async def pair(self, query: Query, nearest: Key) -> Pair | None:
        return await asyncio.to_thread(self.work.pair, query, nearest)

    async def version(self) -> str:
        return await asyncio.to_thread(self.work.version)


@serve.deployment(max_ongoing_requests=256, max_queued_requests=512, graceful_shutdown_timeout_s=60)
@serve.ingress()
class Web:
    def __init__(
        self,
        config: ServingConfig,
        detector: DeploymentHandle,
        describer: DeploymentHandle,
        identifier: DeploymentHandle,
    ) -> None:
        self.config = config
        self.stages = Remote(detector, describer, identifier)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return create_app(self.config, self.stages)


def build(args: dict[str, Any]) -> Application:
    """The application; `import_path` of serving/config.yaml, of its `args`. Raises UserError where they do not fit."""
    return application(load_config(ServingConfig, overrides=args))


def application(config: ServingConfig, options: Sequence[dict[str, Any]] = ()) -> Application:
    """The same with `options` of deployments by `name`, as a file would have them."""
    more = {o["name"]: {k: v for k, v in o.items() if k != "name"} for o in options}
    every: list[Any] = [Detector, Describer, Identifier, Web]
    detector, describer, identifier, web = (d.options(**more.get(d.name, {})) for d in every)
    return web.bind(config, detector.bind(config), describer.bind(config), identifier.bind(config))
