"""Exports over HTTP: what `pusa export` writes."""

from __future__ import annotations

import io
import zipfile

import made_gallery
import pytest

from pusa.exchange.export import FORMATS, Options, files_of
from pusa.gallery.contents import contents

from .test_api import problem
from .test_safety import enter

PACKAGE = {"species": "Pusa hispida", "project": "P", "contributor": "Mia", "sampling": "targeted",
           "capture": "timeLapse"}  # fmt: skip


@pytest.fixture
def gallery(tmp_path):
    return made_gallery.gallery(tmp_path / "gallery", made_gallery.run(tmp_path / "run"))


def unzipped(content: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(content)) as z:
        return {name: z.read(name).decode() for name in z.namelist()}


@pytest.mark.parametrize("form", sorted(set(FORMATS) - {"camtrap-dp"}))
def test_the_same_files_as_the_command(client, gallery, form):
    answer = client.get(f"/v1/exports/{form}", params={"occasion": "week", "side": "any", "species": "Pusa hispida"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == f'attachment; filename="{form}.zip"'
    files, notices = files_of(contents(gallery), form, Options("week", "any", "Pusa hispida"))
    found = unzipped(answer.content)
    assert found.pop("notices.txt", "").splitlines() == notices
    assert found == files


def test_camtrap_dp_asks_for_what_only_the_user_knows(client):
    found = unzipped(client.get("/v1/exports/camtrap-dp", params=PACKAGE).content)
    assert {"datapackage.json", "deployments.csv", "media.csv", "observations.csv"} <= set(found)
    assert "Pusa hispida" in found["observations.csv"]
    less = {k: v for k, v in PACKAGE.items() if k not in ("sampling", "contributor")}
    assert "Give contributor, sampling" in problem(client.get("/v1/exports/camtrap-dp", params=less), 422)


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/v1/exports/pdf", 404, "identities.csv or one of camtrap-dp, mark"),
        ("/v1/exports/mark?occasion=/etc/passwd", 422, "occasion"),  # the command takes a file here
        ("/v1/exports/mark?side=top", 422, "side"),
    ],
)
def test_refused(client, path, status, reason):
    assert reason in problem(client.get(path), status)


def test_the_page(client, keys):
    """Fields that were left out arrive empty; what is missing is told on a page."""
    browser, _ = enter(str(client.base_url), keys["reader"])
    assert "/export/mark" in browser.get("/export").text
    assert "left.inp" in unzipped(browser.get("/export/mark", params={"occasion": "month", "side": ""}).content)
    refused = browser.get("/export/camtrap-dp", params={"species": ""}, headers={"accept": "text/html"})
    assert refused.status_code == 422
    assert refused.headers["content-type"].startswith("text/html")
    assert "what only you know" in refused.text
