"""Who is let in, what is let in, and what browsers are told."""

from __future__ import annotations

import re
import socket
import sqlite3
from pathlib import Path

import httpx
import pytest
from made_photos import png_of

from serving.access import COOKIE, Keys
from serving.database import Database
from serving.jobs import token_of
from serving.settings import Limits

from .conftest import serving
from .test_api import OPEN, photos, problem

PAGES = ("/", "/review", f"/review/{OPEN}", "/individuals", "/upload", "/journal", "/export")


def key_of(headers: dict[str, str]) -> str:
    return headers["authorization"].removeprefix("Bearer ")


def enter(address: str, headers: dict[str, str]) -> tuple[httpx.Client, str]:
    """A browser's session, and its token."""
    client = httpx.Client(base_url=address, follow_redirects=True, timeout=60)
    page = client.post("/login", data={"key": key_of(headers)})
    assert page.status_code == 200
    return client, re.search(r'name="csrf" content="([^"]+)"', page.text)[1]


def test_roles(client, keys):
    """reader: looks and asks; reviewer: decides."""
    decision = {"kind": "new", "encounters": [OPEN], "individual": "Cleo"}
    assert "Key needed" in problem(httpx.get(f"{client.base_url}/v1/individuals"), 401)
    wrong = {"authorization": "Bearer pusa_wrong"}
    assert "never given out" in problem(httpx.get(f"{client.base_url}/v1/individuals", headers=wrong), 401)
    assert client.get("/v1/individuals", headers=keys["reader"]).status_code == 200
    refused = client.post("/v1/decisions", json=decision, headers=keys["reader"])
    assert "needs the role reviewer; Mia the reader is a reader" in problem(refused, 403)
    assert "reviewer" in problem(
        client.post("/v1/identify", files=photos(), data={"enroll": "true"}, headers=keys["reader"]), 403
    )
    assert client.post("/v1/decisions", json=decision, headers=keys["admin"]).status_code == 201


def test_keys_are_kept_as_hashes_and_can_be_revoked(client, config, keys):
    with sqlite3.connect(Path(config.data) / "server.sqlite") as database:
        dump = "\n".join(database.iterdump())
    assert all(key_of(h) not in dump for h in keys.values())
    browser, _ = enter(str(client.base_url), keys["reviewer"])
    assert browser.get("/journal").status_code == 200
    Keys(Database(config.data)).revoke("Mia the reviewer")
    assert "revoked" in problem(client.get("/v1/individuals"), 401)
    assert str(browser.get("/journal").url).endswith("/login")


def test_pages_ask_for_a_key(client, keys):
    for path in PAGES:
        answer = httpx.get(f"{client.base_url}{path}", headers={"accept": "text/html"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    browser, _ = enter(str(client.base_url), keys["reviewer"])
    for path in PAGES:
        assert browser.get(path, headers={"accept": "text/html"}).status_code == 200, path
    cookie = httpx.post(f"{client.base_url}/login", data={"key": key_of(keys["reader"])}).headers["set-cookie"]
    assert COOKIE in cookie
    assert {"HttpOnly", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
    reader, _ = enter(str(client.base_url), keys["reader"])
    assert reader.get("/upload", headers={"accept": "text/html"}).status_code == 403
    assert "Same animal" not in reader.get(f"/review/{OPEN}").text


@pytest.mark.parametrize("sent", [None, "", "wrong", "ä"])
def test_forms_of_foreign_pages_do_nothing(client, keys, gallery, sent):
    browser, token = enter(str(client.base_url), keys["reviewer"])
    data = {"kind": "new", "individual": "Cleo"} | ({} if sent is None else {"csrf": sent})
    assert browser.post(f"/review/{OPEN}", data=data).status_code == 403
    assert (
        browser.post("/v1/decisions", json={"kind": "new", "encounters": [OPEN], "individual": "C"}).status_code == 403
    )
    foreign = {"origin": "http://evil.example"}
    assert browser.post(f"/review/{OPEN}", data=data | {"csrf": token}, headers=foreign).status_code == 403
    assert len(gallery.decisions()) == 2
    assert browser.post(f"/review/{OPEN}", data=data | {"csrf": token}).status_code == 200
    assert gallery.decisions()[-1].individual == "Cleo"


def test_merges_need_a_second_confirmation(client, keys, gallery):
    browser, token = enter(str(client.base_url), keys["reviewer"])
    aino = next(i for i in client.get("/v1/individuals").json() if i["name"] == "Aino")["token"]
    page = browser.get(f"/individuals/{aino}/merge", params={"into": "Bo"})
    assert "Is Aino the same animal as Bo?" in page.text
    form = {"csrf": token, "into": "Bo"}
    assert "Not confirmed" in browser.post(f"/individuals/{aino}/merge", data=form).text
    assert len(gallery.decisions()) == 2
    browser.post(f"/individuals/{aino}/merge", data=form | {"confirmed": "yes", "reason": "scar"})
    assert gallery.decisions()[-1].told() == "merge Aino -> Bo"


def test_open_is_for_this_machine(config, still):
    """Without keys: not under a foreign name (DNS rebinding), and not from another site's page."""
    with serving(config.model_copy(update={"access": "open"}), still) as address:
        assert httpx.get(f"{address}/v1/individuals").status_code == 200
        refused = httpx.get(f"{address}/v1/individuals", headers={"host": "evil.example"})
        assert "its own machine alone" in problem(refused, 403)
        for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
            asked = {"kind": "new", "encounters": [OPEN], "individual": "Cleo"}
            assert "other sites" in problem(httpx.post(f"{address}/v1/decisions", json=asked, headers=headers), 403)


def test_bodies_have_a_limit(config, keys, still):
    small = config.model_copy(update={"limits": Limits(body_mb=1, upload_seconds=1)})
    with serving(small, still) as address, httpx.Client(base_url=address, headers=keys["reader"]) as client:
        large = [("photos", ("a.jpg", bytes(2 << 20)))]
        assert "1 MB" in problem(client.post("/v1/identify", files=large), 413)

        def chunks():
            yield b'--b\r\ncontent-disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\n'
            for _ in range(32):
                yield bytes(1 << 16)
            yield b"\r\n--b--\r\n"

        headers = {"content-type": "multipart/form-data; boundary=b"}  # chunked: it does not say its length
        assert "1 MB" in problem(client.post("/v1/identify", content=chunks(), headers=headers), 413)

        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:  # says 100 bytes, sends 1
            head = (
                f"POST /v1/decisions HTTP/1.1\r\nhost: {host}\r\nauthorization: {keys['reviewer']['authorization']}\r\n"
            )
            slow.sendall(f"{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{".encode())
            slow.settimeout(20)
            assert b" 408 " in slow.recv(200)
        assert client.post("/v1/identify", files=photos()).status_code == 200


def test_browsers_are_told_to_be_careful(client):
    for path in ("/readyz", "/v1/nothing", "/static/style.css", "/login"):
        headers = client.get(path).headers
        assert "script-src 'self';" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_names_do_not_become_markup(client, keys, gallery):
    browser, token = enter(str(client.base_url), keys["reviewer"])
    name = '<img src=x onerror=alert(1)>"'
    browser.post(f"/review/{OPEN}", data={"csrf": token, "kind": "new", "individual": name})
    assert gallery.decisions()[-1].individual == name
    for path in ("/", "/individuals", "/journal", f"/review/{OPEN}"):
        assert "<img src=x" not in browser.get(path).text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../access.py",
        "/static/%2e%2e/access.py",
        "/static/..%2faccess.py",
        "/v1/exports/..%2F..%2Fserver.sqlite",
        f"/v1/encounters/{token_of(('/etc', 'passwd'))}/crops/0",
        "/v1/jobs/..%2F..",
        "/v1/encounters/" + OPEN + "/crops/-1",
        "/v1/encounters/" + OPEN + "/crops/99",
    ],
)
def test_no_path_reaches_the_file_system(client, path):
    answer = client.get(path)
    assert answer.status_code in (404, 422)
    assert "import" not in answer.text


def test_pixels_have_a_limit(client):
    """Refused from its header, before it fills the memory; the others are answered."""
    bomb = ("photos", ("bomb.png", png_of(100_000, 100_000)))
    found = {p["name"]: p for p in client.post("/v1/identify", files=[*photos(), bomb]).json()["result"]["photos"]}
    assert "limit of 200 megapixels" in found["bomb.png"]["error"]
    assert found["0.jpg"]["status"] == "ok"
