"""The web application: API, pages and pictures around the stages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from pusa import __version__
from serving import api, api_catalogue, pages, pages_entry, pictures, problems
from serving.access import Guard, Keys
from serving.album import Album
from serving.database import Database
from serving.jobs import Jobs
from serving.review import Desk
from serving.settings import ServingConfig
from serving.shelf import Shelf
from serving.shield import Shield
from serving.stages import Stages
from serving.state import State

HERE = Path(__file__).parent
SWAGGER = Path(fastapi_offline.__file__).parent / "static"  # Swagger UI, which FastAPI itself takes from the internet
REST = 15.0  # s between two looks for encounters that nobody has asked about

logger = logging.getLogger("pusa.serving")


def create_app(config: ServingConfig, stages: Stages) -> ASGIApp:
    """The application. Raises UserError where the gallery, the weights or the data folder cannot be used."""
    database, shelf = Database(config.data), Shelf(config.gallery)
    jobs, desk = Jobs(config, database, stages), Desk(shelf, database, stages)
    guard = Guard(Keys(database), config.access)
    state = State(config, database, stages, shelf, Album(shelf.gallery), jobs, desk, guard)

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(jobs.work()), asyncio.create_task(_ask(desk))]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await jobs.stop()

    app = FastAPI(title="Pusa", version=__version__, lifespan=life, docs_url=None,
                  redoc_url=None, description="Photo-identification of animals with a pattern.")  # fmt: skip
    app.state.here, app.state.guard = state, guard
    problems.register(app)
    pages_entry.register(app)
    app.include_router(api.router)
    app.include_router(api_catalogue.router)
    app.include_router(pictures.router)
    app.include_router(pages.router, include_in_schema=False)
    app.state.error_page = pages.error_page
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    app.mount("/swagger", StaticFiles(directory=SWAGGER))

    @app.get("/healthz", tags=["server"])
    async def healthz() -> dict[str, str]:
        """Whether this process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["server"], responses={503: {"model": api.answers.ProblemDetails}})
    async def readyz() -> Response:
        """Whether photos can be identified: the gallery is there, and the networks answer."""
        try:
            async with asyncio.timeout(10):
                version = await stages.version()
        except TimeoutError as e:
            raise problems.Problem(503, "Not ready", "The identifier does not answer.", Retry_After="10") from e
        return JSONResponse({"status": "ready", "gallery_version": version})

    problems.describe(app)
    return Shield(app, config.limits)


async def _ask(desk: Desk) -> None:
    """Keeps the review queue in order: asks about encounters as they are enrolled."""
    while True:
        try:
            asked = await desk.ask_all()
        except Exception:
            logger.exception("the review queue cannot be asked about")
            asked = 0
        await asyncio.sleep(0 if asked else REST)
