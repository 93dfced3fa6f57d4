"""Servers for tests: real ones on a port of their own, with stages that find nothing, or with the networks."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pyarrow as pa
import pytest
import torch
import uvicorn
from PIL import Image

from pusa import records
from pusa.fisher.codebook import Codebook
from pusa.fisher.mixture import Mixture
from pusa.gallery.store import Gallery
from pusa.synthetic.archive import processes, synth
from pusa.synthetic.settings import SynthConfig
from serving.access import Keys
from serving.app import create_app
from serving.database import Database
from serving.settings import ServingConfig
from serving.workers import Answer, Encoded


class Still:
    """Stages that find no animal, at once; `gate` holds them up."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[str] = []

    async def detect(self, photo: pa.Table, content: bytes) -> pa.Table:
        import asyncio

        self.calls.append(photo["path"][0].as_py())
        while not self.gate.is_set():
            await asyncio.sleep(0.01)
        return records.with_columns(photo, status=["ok"], digest=[str(len(content))])

    async def describe(self, photo: pa.Table) -> pa.Table:
        return photo

    async def encode(self, photos: pa.Table) -> Encoded:
        return Encoded(records.ENCOUNTERS.empty_table(), {})

    async def identify(self, query, among) -> Answer:
        return Answer([], "1.1", 0)

    async def pair(self, query, nearest) -> None:
        return None

    async def version(self) -> str:
        return "1.1"


@contextlib.contextmanager
def serving(config: ServingConfig, stages) -> Iterator[str]:
    """The application on a port of its own; gives its address."""
    server = uvicorn.Server(uvicorn.Config(create_app(config, stages), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


def jpeg(seed: int = 0, size: tuple[int, int] = (60, 40)) -> bytes:
    """A photo of noise; each seed another one."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def gallery(tmp_path) -> Gallery:
    """Four encounters without vectors: Aino twice, Bo, and one that nobody has decided about."""
    mixture = Mixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2))
    made = Gallery.create(str(tmp_path / "gallery"), Codebook(torch.zeros(2), torch.eye(2), mixture, digest="c"))
    keys = [("north", "1#0", "Aino"), ("north", "2#0", "Aino"), ("south", "3#0", "Bo"), ("south", "4/5#0", None)]
    made.enroll(pa.Table.from_pylist([dict(zip(("run", "encounter_id", "individual"), k, strict=True)) for k in keys]))
    return made


@pytest.fixture
def config(gallery, tmp_path) -> ServingConfig:
    return ServingConfig(gallery=gallery.uri, data=str(tmp_path / "data"), access="keys")


@pytest.fixture
def keys(config) -> dict[str, dict[str, str]]:
    """The header of a reader, a reviewer and an admin."""
    made = Keys(Database(config.data))
    return {r: {"authorization": f"Bearer {made.add(f'Mia the {r}', r)}"} for r in ("reader", "reviewer", "admin")}


@pytest.fixture
def still() -> Still:
    return Still()


@pytest.fixture
def client(config, keys, still) -> Iterator[httpx.Client]:
    """A reviewer's client of a server that finds nothing."""
    with serving(config, still) as address, httpx.Client(base_url=address, headers=keys["reviewer"], timeout=60) as c:
        yield c


@pytest.fixture(scope="session")
def sequences(tmp_path_factory) -> list[list[tuple[str, bytes]]]:
    """Drawn photos by name, of two sequences that show the same two animals."""
    out = tmp_path_factory.mktemp("drawn") / "archive"
    settings = SynthConfig(photos=6, sequences=2, individuals=2, animals=(2, 2), sequence_photos=(3, 3), same_side=1.0,
                           newcomers=0, absent=0, renderer="b", seed=3)  # fmt: skip
    synth(out, settings, processes(1))
    files = sorted((out / "photos").rglob("*.JPG"))
    folders = sorted({f.parent for f in files})
    return [[(f.name, f.read_bytes()) for f in files if f.parent == folder] for folder in folders]
