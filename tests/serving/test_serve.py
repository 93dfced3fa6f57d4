"""The Serve application on a Ray session: the same numbers as a run, and what happens when parts of it die."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from pipelines.identify import identify
from pipelines.process import ProcessConfig, begin, process
from pusa import records
from pusa.config import load_config
from pusa.gallery.candidate_set import CandidateSet
from pusa.gallery.enrolment import enroll
from pusa.gallery.journal import Decision
from pusa.gallery.store import Gallery
from pusa.gallery.verify import VerifyConfig
from pusa.records import Run
from serving import config as serving_config


@pytest.fixture(scope="module")
def run(sequences, tmp_path_factory, cluster) -> Run:
    """Both sequences, a folder each, processed as an archive; the first one's encounters are the gallery."""
    root = tmp_path_factory.mktemp("batch")
    for number, photos in enumerate(sequences):
        folder = root / "archive" / f"day{number}"
        folder.mkdir(parents=True)
        for name, content in photos:
            (folder / name).write_bytes(content)
    settings = load_config(ProcessConfig, overrides={"photos_per_block": 2})
    out = str(root / "run")
    begin(str(root / "archive"), out, settings)
    process(str(root / "archive"), out, settings)
    made = Run(out)
    ids = made.read("encounters", ["encounter_id", "sequence_id"]).to_pylist()
    known = [r["encounter_id"] for r in ids if r["sequence_id"] == "day0"]
    enroll(made, str(root / "gallery"), {e: f"A{i:03d}" for i, e in enumerate(known)})
    return made


@pytest.fixture(scope="module")
def values(run, tmp_path_factory):
    """The configuration."""
    gallery = str(Path(run.path).parent / "gallery")
    found = serving_config.of_options(gallery, str(tmp_path_factory.mktemp("data")), "127.0.0.1", 8765)
    found["applications"][0]["args"]["threads"] = 1  # as a run's actors on two cores
    return found


@pytest.fixture(scope="module")
def client(values) -> Iterator[httpx.Client]:
    with serving_config.started(values) as address, httpx.Client(base_url=address, timeout=300) as made:
        yield made


def uploads(sequences) -> list[tuple[str, tuple[str, bytes]]]:
    return [("photos", (f"day{n}/{f}", content)) for n, photos in enumerate(sequences) for f, content in photos]


def test_the_same_numbers_as_a_run(client, values, run, sequences):
    """Boxes, masks, crops, descriptors, patterns, embeddings, Fisher vectors, candidates: equal to the last bit."""
    asked = {"sequences": "folder", "from_year": "2000"}  # a candidate set, of all that were taken since
    answer = client.post("/v1/identify?wait=300", files=uploads(sequences), data=asked)
    assert answer.status_code == 200, answer.text
    job = answer.json()
    online = Run(f"{values['applications'][0]['args']['data']}/jobs/{job['job_id']}/run")

    def by_path(r: Run) -> dict[str, list[dict]]:
        table = r.read("photos")
        return dict(zip(table["path"].to_pylist(), records.instances(table), strict=True))

    ours, theirs = by_path(online), by_path(run)
    assert sorted(ours) == sorted(theirs)
    assert sum(map(len, ours.values())) > 0
    for path in ours:
        assert len(ours[path]) == len(theirs[path])
        for mine, other in zip(ours[path], theirs[path], strict=True):
            for name in set(mine) - {"instance_id"}:
                assert np.array_equal(mine[name], other[name]), (path, name)

    def vectors(r: Run) -> list[tuple]:
        rows = r.read("encounters").sort_by("encounter_id").to_pylist()
        return [(row["encounter_id"], row["n_patches"], row["fisher"]) for row in rows]

    assert vectors(online) == vectors(run)
    # The run's first sequence is in the gallery and not compared with itself: its copy, uploaded, finds it. The second
    # one is compared with the same animals in both.
    gallery = values["applications"][0]["args"]["gallery"]
    told = identify(run, gallery, 5, VerifyConfig(), among=CandidateSet(first_year=2000))
    result = job["result"]
    assert (result["candidate_set"], result["searched"]) == (told["candidate_set"], told["searched"])
    assert online.manifest()["identified"].items() <= told.items()
    second = [row for row in run.read("candidates").to_pylist() if row["encounter_id"].startswith("day1")]
    found = [row for row in online.read("candidates").to_pylist() if row["encounter_id"].startswith("day1")]
    assert second
    assert sorted(found, key=str) == sorted(second, key=str)
    (first, *_) = (e for e in job["result"]["encounters"] if e["encounter_id"] == "day0#0")
    assert first["candidates"][0]["individual"] == "A000"
    assert first["candidates"][0]["distance"] < 1e-3


def test_pictures_are_there(client):
    job = client.get("/v1/jobs").json()[0]
    encounters = client.get(job["link"]).json()["result"]["encounters"]
    with_candidates = next(e for e in encounters if e["candidates"] and e["candidates"][0]["inliers"])
    assert client.get(with_candidates["pictures"][0]).content[:2] == b"\xff\xd8"
    assert client.get(with_candidates["candidates"][0]["picture"]).content[:2] == b"\xff\xd8"
    assert client.get(with_candidates["candidates"][0]["match"]).content[:2] == b"\xff\xd8"


def finished(client, link: str) -> dict:
    """A job when it is finished, or as it is after five minutes."""
    deadline = time.monotonic() + 300
    while (job := client.get(link).json())["state"] not in ("done", "failed") and time.monotonic() < deadline:
        time.sleep(0.5)
    return job


def replica(deployment: str):
    import ray

    every = ray.util.list_named_actors(all_namespaces=True)
    (name, *_) = (a["name"] for a in every if f"pusa#{deployment}#" in a["name"])
    return ray.get_actor(name, namespace="serve")


@pytest.mark.parametrize("deployment", ["Detector", "Describer", "Identifier"])
def test_a_replica_killed_in_mid_request(client, sequences, deployment):
    """The request is answered all the same: its stages are called again."""
    import ray

    answers: list[httpx.Response] = []
    headers = {"idempotency-key": f"kill {deployment}"}

    def send() -> None:
        answers.append(client.post("/v1/identify?wait=300", files=uploads(sequences)[:3], headers=headers))

    thread = threading.Thread(target=send)
    thread.start()
    time.sleep(1)
    ray.kill(replica(deployment), no_restart=True)
    thread.join(300)
    assert answers[0].status_code in (200, 202), answers[0].text
    job = finished(client, answers[0].json()["link"])
    assert job["state"] == "done", job
    assert [p["status"] for p in job["result"]["photos"]] == ["ok"] * 3


def test_the_web_killed_in_mid_request(client, sequences):
    """The request fails clearly. Sent again with its key it finds its job, which the next process takes over; no second
    one is made."""
    import ray

    before = len(client.get("/v1/jobs").json())
    answers: list[httpx.Response] = []

    def send() -> None:
        for _ in range(60):
            with contextlib.suppress(httpx.HTTPError):
                headers = {"idempotency-key": "kill Web"}
                answers.append(client.post("/v1/identify?wait=300", files=uploads(sequences)[:3], headers=headers))
                if answers[-1].status_code < 500:
                    return
            time.sleep(1)

    thread = threading.Thread(target=send)
    thread.start()
    while len(client.get("/v1/jobs").json()) == before:
        time.sleep(0.1)
    ray.kill(replica("Web"), no_restart=True)
    thread.join(300)
    assert answers[-1].status_code in (200, 202), answers[-1].text
    assert {a.status_code for a in answers[:-1]} <= {500, 503}
    job = finished(client, answers[-1].json()["link"])
    assert job["state"] == "done", job
    assert [p["status"] for p in job["result"]["photos"]] == ["ok"] * 3
    assert len(client.get("/v1/jobs").json()) == before + 1


def test_a_rolling_redeployment_drops_nothing(client, values, sequences):
    """Decisions go on while the application is deployed anew: all are in the journal, once. A job goes on, too."""
    gallery = Gallery.open(values["applications"][0]["args"]["gallery"])
    token = client.get("/v1/encounters").json()[0]["token"]
    before, sent, stop = len(gallery.decisions()), [], threading.Event()

    def work() -> None:
        while not stop.is_set():
            key = f"redeploy {len(sent)}"
            for _ in range(20):  # what a client does: the same key again after an error of the server
                with contextlib.suppress(httpx.HTTPError):
                    asked = {"kind": "unknown", "encounters": [token], "reason": key}
                    answer = client.post("/v1/decisions", json=asked, headers={"idempotency-key": key})
                    if answer.status_code < 500:
                        break
                time.sleep(0.3)
            sent.append(answer.status_code)

    begun = client.post("/v1/identify?wait=0", files=uploads(sequences), headers={"idempotency-key": "across"}).json()
    thread = threading.Thread(target=work)
    thread.start()
    changed = {**values["applications"][0], "args": values["applications"][0]["args"] | {"top": 3}}
    from ray import serve

    from serving.deployments import application
    from serving.settings import ServingConfig

    new = application(ServingConfig.model_validate(changed["args"]), changed["deployments"])
    serve.run(new, name="pusa", route_prefix="/")
    time.sleep(1)
    stop.set()
    thread.join(120)
    assert sent
    assert set(sent) == {201}
    made: list[Decision] = gallery.decisions()[before:]
    assert [d.reason for d in made] == [f"redeploy {i}" for i in range(len(sent))]
    job = finished(client, begun["link"])
    assert job["state"] == "done", job
    assert [p["status"] for p in job["result"]["photos"]] == ["ok"] * 6
