"""Whom an encounter is compared with, asked for over HTTP and on the review page."""

from __future__ import annotations

import datetime as dt

import httpx
import numpy as np
import pyarrow as pa
import pytest

from pusa.fisher.codebook import Codebook
from pusa.gallery.candidate_set import CandidateSet
from pusa.gallery.geometry import Features, Points
from pusa.gallery.index import ALL, Query
from pusa.gallery.journal import Decision
from pusa.gallery.store import Gallery
from serving.jobs import token_of
from serving.settings import ServingConfig
from serving.shelf import Shelf
from serving.workers import Answer, Identifying

from .conftest import Still, serving
from .test_api import photos, problem
from .test_safety import enter

# name, place, year, side; the last one is the question: undecided, and nearest to Bo
SEEN = [("Aino", "North", 2019, "left"), ("Bo", "South", 2021, "right"), ("Cleo", "North", 2023, "right"),
        (None, "South", 2024, "right")]  # fmt: skip
ASKED = token_of(("run", "3#0"))


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Of unit length, near each other, as Fisher vectors are."""
    codebook = Codebook.load("starter/codebook")
    x = np.random.default_rng(0).standard_normal((4, codebook.length))
    x[3] = x[1] + 0.5 * x[3]
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture
def gallery(tmp_path, vectors) -> Gallery:
    made = Gallery.create(str(tmp_path / "gallery"), Codebook.load("starter/codebook"))
    times = [dt.datetime(year, 6, 1) for _, _, year, _ in SEEN]
    columns = {
        "run": ["run"] * 4, "encounter_id": [f"{i}#0" for i in range(4)], "individual": [s[0] for s in SEEN],
        "place": [s[1] for s in SEEN], "side": [s[3] for s in SEEN], "n_patches": pa.array([50] * 4, pa.int32()),
        "taken_from": pa.array(times, pa.timestamp("ms")), "taken_to": pa.array(times, pa.timestamp("ms")),
        "fisher": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
    }  # fmt: skip
    made.enroll(pa.table(columns))
    return made


class Comparing(Still):
    """Finds nothing in photos, and compares what is enrolled."""

    def __init__(self, config: ServingConfig) -> None:
        super().__init__()
        self.work = Identifying(config)

    async def identify(self, query, among) -> Answer:
        return self.work([(query, among)])[0]


@pytest.fixture
def stages(config) -> Comparing:
    return Comparing(config)


@pytest.fixture
def client(config, keys, stages):
    with serving(config, stages) as address, httpx.Client(base_url=address, headers=keys["reviewer"], timeout=60) as c:
        yield c


def test_each_question_has_its_own_set(stages, vectors):
    """Questions that are answered together do not share their candidate sets, and one whose set has nobody spoils none
    of the others."""
    query = Query(("job", "x"), vectors[3], 50)
    sets = [ALL, CandidateSet(places=("North",)), CandidateSet(side="right", first_year=2022),
            CandidateSet(places=("Nowhere",)), ALL]  # fmt: skip
    found = stages.work([(query, among) for among in sets])
    names = [[c["individual"] for c in answer.candidates] for answer in found]
    assert names[0][0] == "Bo"
    everybody = {"Aino", "Bo", "Cleo"}
    assert [set(n) for n in names] == [everybody, {"Aino", "Cleo"}, {"Cleo"}, set(), everybody]
    assert [answer.searched for answer in found] == [3, 2, 1, 0, 3]


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, {"Aino", "Bo", "Cleo"}),
        ({"place": "North"}, {"Aino", "Cleo"}),
        ({"place": ["North", "South"], "to_year": 2021}, {"Aino", "Bo"}),
        ({"side": "right", "from_year": 2022}, {"Cleo"}),
    ],
)
def test_an_enrolled_encounter_among_some(client, asked, names):
    for _ in "ab":  # the second time it is answered from what was kept
        found = client.get(f"/v1/encounters/{ASKED}", params=asked).json()["candidates"]
        assert {c["individual"] for c in found} == names
    everybody = client.get(f"/v1/encounters/{ASKED}").json()["candidates"]
    assert len(everybody) == 3


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"place": "Nowhere"}, "of the place 'Nowhere'. It has: North, South"),
        ({"from_year": "2024", "to_year": "2019"}, "in the wrong order"),
        ({"place": "North", "from_year": "2024"}, "is in the candidate set: North; 2024"),
        ({"side": "top"}, "side"),
        ({"from_year": "0"}, "from_year"),
    ],
)
def test_sets_that_nobody_is_in(client, asked, reason):
    assert reason in problem(client.get(f"/v1/encounters/{ASKED}", params=asked), 422)
    assert reason in problem(client.post("/v1/identify", files=photos(), data=asked), 422)
    assert client.get("/v1/jobs").json() == []


def test_crops_that_were_taken_out_are_not_compared(gallery, vectors):
    """Of an enrolled encounter's two crops one is another animal's."""

    def crop(size: float) -> Features:
        return Features(Points(np.zeros((1, 2), np.float32), np.zeros((1, 128), np.uint8)), size, picture=b"jpeg")

    fisher = pa.FixedSizeListArray.from_arrays(pa.array(vectors[0]), vectors.shape[1])
    gallery.enroll(
        pa.table({"run": ["r"], "encounter_id": ["x"], "fisher": fisher}), {"x": {"a": crop(1), "b": crop(2)}}
    )
    shelf, key = Shelf(gallery.uri), ("r", "x")
    assert [c.side for c in shelf.query(key).crops] == [1, 2]
    gallery.decide(Decision("other_animal", (key,), by="Mia", instance_id="a"))
    assert [c.side for c in shelf.query(key).crops] == [2]
    assert np.array_equal(shelf.query(key).fisher, vectors[0])


def test_the_answer_repeats_the_set(client):
    asked = {"place": ["North", "South"], "from_year": "2019", "side": "right"}
    result = client.post("/v1/identify", files=photos(), data=asked).json()["result"]
    assert result["candidate_set"] == "North, South; 2019 to ...; right"
    assert client.post("/v1/identify", files=photos()).json()["result"]["candidate_set"] == "all"


def test_the_review_page(client, keys, gallery):
    """Candidates of the set, a set that nobody is in is said on the page, and a decision keeps what was shown."""
    browser, token = enter(str(client.base_url), keys["reviewer"])
    everybody = browser.get(f"/review/{ASKED}").text
    assert "Compared with all of the gallery" in everybody
    north = browser.get(f"/review/{ASKED}", params={"place": "North", "from_year": "", "side": ""}).text
    assert "Compared with <b>North</b>" in north
    assert f'action="/review/{ASKED}?place=North"' in north
    assert ">Cleo</a></h3>" in north
    assert ">Bo</a></h3>" not in north
    nobody = browser.get(f"/review/{ASKED}", params={"place": "Nowhere"})
    assert (nobody.status_code, "It has: North, South." in nobody.text) == (200, True)
    assert "is not understood" in browser.get(f"/review/{ASKED}", params={"from_year": "soon"}).text
    form = {"csrf": token, "kind": "unknown"}
    answer = browser.post(f"/review/{ASKED}?place=North", data=form, follow_redirects=False)
    assert answer.headers["location"].startswith("/review?decided=")  # nothing else waits
    assert set(gallery.decisions()[-1].shown) == {"Aino", "Cleo"}
