"""A gallery that is opened once: the same answers whether vectors or codes are in memory, and whatever is written
meanwhile."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
import torch

from pusa.fisher.codebook import Codebook, Mixture
from pusa.gallery import index as module
from pusa.gallery import verify
from pusa.gallery.calibration import Calibration
from pusa.gallery.candidate_set import CandidateSet
from pusa.gallery.geometry import NO_MARKS, Features, Points
from pusa.gallery.index import Index, Query
from pusa.gallery.journal import Decision
from pusa.gallery.search import Coded
from pusa.gallery.store import Gallery
from pusa.gallery.verify import VerifyConfig

LENGTH = 256
CODEBOOK = Codebook(
    torch.zeros(2), torch.zeros(2, 128), Mixture(torch.ones(1), torch.zeros(1, 128), torch.ones(1, 128)), digest="c"
)


def unit(v: np.ndarray) -> np.ndarray:
    return (v / np.linalg.norm(v)).astype(np.float16)


def animals(count: int, each: int) -> np.ndarray:
    """Vectors (count, each, LENGTH): those of an animal lie about a direction of its own."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((count, 1, LENGTH))
    return centres + 0.8 * rng.standard_normal((count, each, LENGTH))


def crops(seed: int, view: int) -> dict[str, Features]:
    """Two crops of an animal, with patches only; of each view every third patch is another one."""
    found = {}
    for k in range(2):
        rng, noise = np.random.default_rng(10 * seed + k), np.random.default_rng(1000 * view + seed)
        x = rng.standard_normal((12, 8))
        x[view % 3 :: 3] = noise.standard_normal(x[view % 3 :: 3].shape)
        points = Points(rng.uniform(0, 100, (12, 2)).astype(np.float32), x.astype(np.float16))
        found[f"i{k}"] = Features(NO_MARKS, 100.0, patches=points)
    return found


@pytest.fixture
def gallery(tmp_path) -> Gallery:
    """Twelve animals in two encounters each, of 2020 and 2021, North and South; a third of each is the query."""
    made = Gallery.create(str(tmp_path / "g"), CODEBOOK)
    vectors = animals(12, 3)
    keys = [(a, k) for a in range(12) for k in range(2)]
    made.enroll(
        pa.table(
            {
                "run": ["r"] * len(keys),
                "encounter_id": [f"{a:02}-{k}" for a, k in keys],
                "individual": [f"animal {a:02}" for a, _ in keys],
                "place": ["North" if a < 6 else "South" for a, _ in keys],
                "taken_from": pa.array([datetime(2020 + k, 5, 1) for _, k in keys], pa.timestamp("ms")),
                "taken_to": pa.array([datetime(2020 + k, 5, 2) for _, k in keys], pa.timestamp("ms")),
                "fisher": pa.array([unit(vectors[key]) for key in keys], pa.list_(pa.float16())),
            }
        ),
        {f"{a:02}-{k}": crops(a, k) for a, k in keys},
    )
    made.keep_calibration(Calibration(lead=1, inliers=0.2, nearness=1, new=0, patches=0, queries=0))
    return made


@pytest.fixture
def queries() -> list[Query]:
    vectors = animals(12, 3)
    return [Query(("q", f"q{a:02}"), vectors[a, 2], 24, list(crops(a, 2).values())) for a in range(12)]


def rows(ranking) -> list:
    """Candidates, numbers to 1e-5: sums of products come out otherwise in another number of rows."""
    return [pytest.approx(row, abs=1e-5) for row in ranking.candidates.to_pylist()]


@pytest.mark.parametrize("verification", [None, VerifyConfig(), VerifyConfig(shortlist=3, encounters=4)])
def test_codes_answer_as_vectors_do_where_all_are_on_the_shortlist(gallery, queries, verification):
    exact = Index(gallery, verification).ask(queries)
    coded = Index(gallery, verification, exact=0)
    assert isinstance(coded.vectors, Coded)
    found = coded.ask(queries)
    assert found.candidates.to_pylist() == rows(exact)
    assert found.nearest.tolist() == exact.nearest.tolist()
    assert [r["individual"] for r in found.candidates.to_pylist() if r["rank"] == 1] == [
        f"animal {a:02}" for a in range(12)
    ]


def test_a_short_shortlist_finds_the_same_animals(gallery, queries, monkeypatch):
    monkeypatch.setattr(module, "SHORTLIST", 4)
    exact, coded = Index(gallery).ask(queries, top=1), Index(gallery, exact=0).ask(queries, top=1)
    assert coded.candidates.to_pylist() == rows(exact)


def test_queries_asked_in_parts(gallery, queries, monkeypatch):
    whole = Index(gallery, VerifyConfig()).ask(queries)
    monkeypatch.setattr(module, "PAIRS", 50)  # two queries against 24 encounters
    parts = Index(gallery, VerifyConfig()).ask(queries)
    assert parts.candidates.to_pylist() == rows(whole)
    assert parts.nearest.tolist() == whole.nearest.tolist()


def test_an_enrolled_query_is_not_its_own_candidate(gallery):
    vectors = animals(12, 3)
    found = Index(gallery).ask([Query(("r", "03-0"), vectors[3, 0])]).candidates.to_pylist()
    assert (found[0]["individual"], found[0]["distance"] > 0.1) == ("animal 03", True)  # its other encounter
    other = Index(gallery).ask([Query(("another run", "03-0"), vectors[3, 0])]).candidates.to_pylist()
    assert other[0]["distance"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("exact", [0, 100])
def test_the_candidate_set(gallery, queries, exact):
    index = Index(gallery, exact=exact)
    found = index.ask(queries, CandidateSet(places=("South",), last_year=2020), top=50)
    assert len(found.candidates) == 12 * 6
    assert {index.vectors.encounter_ids[i] for i in found.nearest} == {f"{a:02}-0" for a in range(6, 12)}


def test_what_is_written_meanwhile_is_found_after_a_refresh(gallery, queries):
    index = Index(gallery, VerifyConfig(), exact=0)
    before = rows(index.ask(queries))
    assert not index.refresh()
    other = Gallery.open(gallery.uri)
    new = np.random.default_rng(9).standard_normal(LENGTH)
    other.enroll(
        pa.table({"run": ["r"], "encounter_id": ["99"], "individual": ["Zoe"],
                  "fisher": pa.array([unit(new)], pa.list_(pa.float16()))}),
        {"99": crops(99, 0)},
    )  # fmt: skip
    other.enroll(
        pa.table({"run": ["r"], "encounter_id": ["00-0"], "fisher": pa.array([unit(new)], pa.list_(pa.float16()))}), {}
    )  # replaced: its row is another one now
    other.decide(Decision("merge", individual="animal 01", other="animal 00"))
    assert index.ask(queries).candidates.to_pylist() == before
    asked = [Query(("q", "q"), new)]
    assert index.ask(asked, top=1).candidates["distance"][0].as_py() > 0.5
    assert index.refresh()
    assert index.ask(asked, top=1).candidates.to_pylist()[0]["distance"] == pytest.approx(0, abs=1e-3)
    assert len(index) == 25
    names = {r["individual"] for r in index.ask(queries, top=50).candidates.to_pylist()}
    assert "Zoe" in names
    assert "animal 01" not in names


def test_only_the_crops_of_the_shortlist_are_read_and_once(gallery, queries, monkeypatch):
    index = Index(gallery, VerifyConfig(shortlist=2, encounters=3))
    asked = []
    read = index.snapshot.features
    monkeypatch.setattr(index.verifier, "_read", lambda places: asked.append(list(places)) or read(places))
    first = rows(index.ask(queries[:1]))
    assert [len(a) for a in asked] == [3]
    assert index.ask(queries[:1]).candidates.to_pylist() == first
    assert len(asked) == 1
    monkeypatch.setattr(verify, "CACHE", 0)  # nothing is kept: read again, with the same answer
    index.ask(queries[1:2])
    assert index.ask(queries[:1]).candidates.to_pylist() == first
    assert len(asked) == 3


def test_an_empty_gallery(tmp_path, queries):
    for exact in (0, 100):
        index = Index(Gallery.create(str(tmp_path / f"{exact}"), CODEBOOK), VerifyConfig(), exact)
        assert (len(index), len(index.ask(queries).candidates), len(index.ask([]).candidates)) == (0, 0, 0)
