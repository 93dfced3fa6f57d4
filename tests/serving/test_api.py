"""The API, asked over HTTP."""

from __future__ import annotations

import csv
import io
import sqlite3
import threading
import time
from pathlib import Path

import httpx
import pytest

from serving.database import LEASE
from serving.jobs import token_of
from serving.settings import Limits

from .conftest import jpeg, serving

OPEN = token_of(("south", "4/5#0"))


def photos(n: int = 1) -> list[tuple[str, tuple[str, bytes]]]:
    return [("photos", (f"{i}.jpg", jpeg(i))) for i in range(n)]


def problem(answer: httpx.Response, status: int) -> str:
    """The reason of a refusal, which is a problem and tells no trace."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text
    told = answer.json()
    assert told["status"] == status
    return f"{told['title']}: {told['detail']}"


def test_identify_answers_each_photo(client):
    broken = ("photos", ("broken.jpg", b"\xff\xd8 and no more"))
    answer = client.post("/v1/identify", files=[*photos(2), broken])
    assert answer.status_code == 200
    found = {p["name"]: p for p in answer.json()["result"]["photos"]}
    assert {n: p["status"] for n, p in found.items()} == {"0.jpg": "ok", "1.jpg": "ok", "broken.jpg": "error"}
    assert found["broken.jpg"]["error"]
    assert (found["0.jpg"]["width"], found["0.jpg"]["height"]) == (60, 40)
    again = client.get(answer.headers["location"])
    assert again.json() == answer.json()


def test_long_jobs_answer_202(client, still):
    still.gate.clear()
    answer = client.post("/v1/identify?wait=0.1", files=photos(2))
    assert answer.status_code == 202
    assert answer.headers["retry-after"]
    assert client.get(answer.headers["location"]).json()["state"] == "running"
    still.gate.set()
    for _ in range(200):
        job = client.get(answer.headers["location"]).json()
        if job["state"] == "done":
            break
        time.sleep(0.05)
    assert (job["state"], len(job["result"]["photos"])) == ("done", 2)


def test_a_job_survives_a_restart(config, keys, still):
    still.gate.clear()
    with serving(config, still) as address:
        job = httpx.post(f"{address}/v1/identify?wait=0.1", files=photos(3), headers=keys["reader"]).json()
    assert set(still.calls) == {"0.jpg", "1.jpg", "2.jpg"}
    still.gate.set()
    with serving(config, still) as address:
        for _ in range(400):
            found = httpx.get(address + job["link"], headers=keys["reader"]).json()
            if found["state"] == "done":
                break
            time.sleep(0.05)
    assert found["state"] == "done"
    assert len(found["result"]["photos"]) == 3


def test_a_job_of_a_process_that_was_killed_is_taken_over(config, keys, still):
    """It could not leave its jobs to others: they are its own until it has not been seen for a while."""
    still.gate.clear()
    with serving(config, still) as address:
        job = httpx.post(f"{address}/v1/identify?wait=0", files=photos(2), headers=keys["reader"]).json()
    with sqlite3.connect(Path(config.data) / "server.sqlite") as database:
        database.execute("UPDATE jobs SET state='running', owner='killed', seen=?", (time.time(),))
    still.gate.set()
    with serving(config, still) as address:
        time.sleep(3)
        assert httpx.get(address + job["link"], headers=keys["reader"]).json()["state"] == "running"
        with sqlite3.connect(Path(config.data) / "server.sqlite") as database:
            database.execute("UPDATE jobs SET seen=?", (time.time() - LEASE - 1,))
        for _ in range(200):
            found = httpx.get(address + job["link"], headers=keys["reader"]).json()
            if found["state"] == "done":
                break
            time.sleep(0.05)
    assert (found["state"], len(found["result"]["photos"])) == ("done", 2)


def test_ready_only_with_stages(config, keys, still):
    async def never() -> str:
        raise TimeoutError

    still.version = never
    with serving(config, still) as address:
        refused = httpx.get(f"{address}/readyz")
        assert "does not answer" in problem(refused, 503)
        assert httpx.get(f"{address}/healthz").status_code == 200


def test_an_idempotency_key_counts_once(client):
    headers = {"idempotency-key": "k"}
    first = client.post("/v1/identify", files=photos(1), headers=headers).json()
    assert client.post("/v1/identify", files=photos(1), headers=headers).json() == first
    assert "other photos" in problem(client.post("/v1/identify", files=photos(2), headers=headers), 422)
    assert len(client.get("/v1/jobs").json()) == 1

    asked = {"kind": "new", "encounters": [OPEN], "individual": "Cleo"}
    made = client.post("/v1/decisions", json=asked, headers=headers)
    assert made.status_code == 201
    assert client.post("/v1/decisions", json=asked, headers=headers).json() == made.json()
    other = asked | {"individual": "Dora"}
    assert "another decision" in problem(client.post("/v1/decisions", json=other, headers=headers), 422)


def test_the_same_decision_at_once_counts_once(client, gallery):
    asked = {"kind": "same", "encounters": [OPEN], "individual": "Bo"}
    answers: list[httpx.Response] = []

    def send() -> None:
        answers.append(client.post("/v1/decisions", json=asked, headers={"idempotency-key": "x"}))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {a.status_code for a in answers} == {201}
    assert len({a.json()["decision_id"] for a in answers}) == 1
    ids = [d.decision_id for d in gallery.decisions()]
    assert gallery.catalogue().names["south", "4/5#0"] == "Bo"
    assert len(set(ids)) == 3


def test_too_much_to_do(config, keys, still):
    still.gate.clear()
    small = config.model_copy(update={"limits": Limits(jobs=2)})
    with serving(small, still) as address, httpx.Client(base_url=address, headers=keys["reader"]) as client:
        for _ in range(2):
            assert client.post("/v1/identify?wait=0", files=photos()).status_code == 202
        refused = client.post("/v1/identify?wait=0", files=photos())
        assert "Send it again later" in problem(refused, 503)
        assert int(refused.headers["retry-after"]) > 0
        assert client.get("/healthz").status_code == 200  # others are answered
        still.gate.set()


def test_too_many_requests_at_once(config, keys, still):
    still.gate.clear()
    small = config.model_copy(update={"limits": Limits(requests=2)})
    with serving(small, still) as address, httpx.Client(base_url=address, headers=keys["reader"], timeout=60) as client:
        waiting = [
            threading.Thread(target=client.post, args=("/v1/identify",), kwargs={"files": photos()}) for _ in "ab"
        ]
        for thread in waiting:
            thread.start()
        while len(still.calls) < 2:
            time.sleep(0.01)
        refused = client.get("/v1/jobs")
        assert "Too much to do" in problem(refused, 503)
        assert refused.headers["retry-after"]
        assert client.get("/healthz").status_code == 200
        still.gate.set()
        for thread in waiting:
            thread.join()
        assert client.get("/v1/jobs").status_code == 200


def test_decisions_and_export(client, gallery):
    made = client.post("/v1/decisions", json={"kind": "new", "encounters": [OPEN], "individual": "Cleo"}).json()
    assert made["by"] == "Mia the reviewer"
    assert (gallery.decisions()[-1].kind, gallery.decisions()[-1].by) == ("new", "Mia the reviewer")
    rows = {r["encounter_id"]: r for r in csv.DictReader(io.StringIO(client.get("/v1/exports/identities.csv").text))}
    assert (rows["4/5#0"]["individual"], rows["4/5#0"]["decided_by"]) == ("Cleo", "Mia the reviewer")
    assert client.get("/v1/encounters?state=undecided").json() == []

    client.post("/v1/decisions", json={"kind": "undo", "undoes": made["decision_id"]})
    assert [e["token"] for e in client.get("/v1/encounters?state=undecided").json()] == [OPEN]
    assert "4/5#0" not in client.get("/v1/exports/identities.csv").text
    assert [d["effect"] for d in client.get("/v1/decisions").json()][:2] == ["holds", "undone"]


@pytest.mark.parametrize(
    ("asked", "status", "reason"),
    [
        ({"kind": "same", "encounters": [OPEN], "individual": "Nobody"}, 409, "no individual 'Nobody'"),
        ({"kind": "new", "encounters": [OPEN], "individual": "Aino"}, 409, "is taken"),
        ({"kind": "new", "encounters": ["0" * 20], "individual": "Cleo"}, 404, "not in the gallery"),
        ({"kind": "new", "encounters": ["../../etc/passwd"], "individual": "Cleo"}, 422, "encounters"),
        ({"kind": "guess", "encounters": [OPEN]}, 422, "kind"),
        ({"kind": "new", "encounter": [OPEN]}, 422, "encounter"),  # misspelt
        ({"kind": "merge", "individual": "Aino", "other": "Aino"}, 409, "merged with itself"),
        ({"kind": "undo", "undoes": "nothing"}, 409, "no decision"),
    ],
)
def test_what_cannot_be_decided(client, gallery, asked, status, reason):
    assert reason in problem(client.post("/v1/decisions", json=asked), status)
    assert len(gallery.decisions()) == 2


def test_enroll_puts_names_to_a_finished_job(client):
    job = client.post("/v1/identify", files=photos(1)).json()
    asked = {"job_id": job["job_id"], "individuals": {"upload#9": "Aino"}}
    assert "no encounter 'upload#9'" in problem(client.post("/v1/enroll", json=asked), 422)
    assert client.post("/v1/enroll", json={"job_id": job["job_id"]}).json()["enrolled"] == 0
    assert "No such job" in problem(client.post("/v1/enroll", json={"job_id": "0" * 20}), 404)


def test_jobs_can_be_removed(client, keys, config):
    job = client.post("/v1/identify", files=photos(1)).json()
    assert "needs the role admin" in problem(client.delete(job["link"]), 403)
    assert client.delete(job["link"], headers=keys["admin"]).status_code == 204
    assert not (Path(config.data) / "jobs" / job["job_id"]).exists()
    assert "No such job" in problem(client.get(job["link"]), 404)


def test_about_the_server(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["status"] == "ready"
    about = client.get("/v1/version").json()
    assert set(about["weights"]) >= {"segmentation", "pattern", "embedding", "codebook"}
    assert all(len(sha) == 64 for sha in about["weights"].values())
    assert about["gallery"]["codebook"] == "c"
    assert "/v1/identify" in client.get("/openapi.json").json()["paths"]
    docs = client.get("/docs").text
    assert "http://" not in docs.replace("http://www.w3.org", "")
    assert "https://" not in docs
