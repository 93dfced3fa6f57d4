"""The review pages in a real browser, with the networks behind them: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from pathlib import Path

import httpx
import pytest

from pusa.fisher.codebook import Codebook
from pusa.gallery.store import Gallery
from serving.access import Keys
from serving.database import Database
from serving.settings import ServingConfig
from serving.stages import Local

from .conftest import serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
PATIENCE = 120_000  # ms; networks on a busy machine


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with keys and an empty gallery; its address, gallery and the key of a reviewer."""
    root = tmp_path_factory.mktemp("browser")
    gallery = Gallery.create(str(root / "gallery"), Codebook.load("starter/codebook"))
    config = ServingConfig(gallery=gallery.uri, data=str(root / "data"), threads=1)
    key = Keys(Database(config.data)).add("Mia", "reviewer")
    with serving(config, Local(config)) as address:
        yield address, gallery, key


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        running = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield running
        running.close()


@pytest.fixture
def page(browser, server):
    """A reviewer's page; anything that the browser complains about fails the test."""
    address, _, key = server
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto("/")
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Enter").click()
    page.wait_for_url("**/")
    yield page
    context.close()
    assert complaints == []


def upload(page, folder: Path, photos: list[tuple[str, bytes]], name: str) -> None:
    """Sends photos from the page and waits until their encounters are there."""
    folder.mkdir()
    for file, content in photos:
        (folder / file).write_bytes(content)
    page.get_by_role("link", name="Upload", exact=True).click()
    page.locator("input[type=file]").set_input_files(sorted(folder.iterdir()))
    page.get_by_text("3 files").wait_for()
    page.get_by_label("Name of the sequence").fill(name)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/jobs/*")
    page.get_by_role("heading", name=re.compile(r"\d+ encounters?$")).wait_for()


def exported(server) -> dict[str, str]:
    address, _, key = server
    text = httpx.get(f"{address}/v1/exports/identities.csv", headers={"authorization": f"Bearer {key}"}).text
    return {row["encounter_id"]: row["individual"] for row in csv.DictReader(io.StringIO(text))}


def names(server) -> dict[str, str]:
    return {e: name for (_, e), name in server[1].catalogue().names.items()}


def test_from_photos_to_a_catalogue(page, server, sequences, tmp_path):
    """Uploads a sequence, sees its encounters, calls them new by keys alone, undoes one; uploads the second sequence,
    and finds an animal again."""
    upload(page, tmp_path / "first", sequences[0], "first")
    groups = page.locator("article.group")
    assert groups.count() >= 2
    assert groups.first.locator("img").count() >= 1
    assert groups.first.locator("img").first.evaluate("i => i.naturalWidth") > 0

    # New animals, with the keyboard alone.
    page.goto("/")
    page.keyboard.press("j")
    page.wait_for_url("**/review/*")
    first = page.get_by_role("heading", level=1).inner_text()
    page.keyboard.press("n")
    page.get_by_role("dialog").get_by_label("Its name").fill("Aino")
    page.keyboard.press("Enter")
    page.get_by_role("status").get_by_text("Aino").wait_for()
    assert names(server) == exported(server) == {first: "Aino"}

    # Taken back: nothing is in the export; then decided again.
    page.keyboard.press("z")
    page.get_by_role("status").get_by_text("Taken back").wait_for()
    assert page.get_by_role("heading", level=1).inner_text() == first
    assert names(server) == exported(server) == {}
    page.keyboard.press("n")
    page.get_by_role("dialog").get_by_label("Its name").fill("Aino")
    page.keyboard.press("Enter")
    page.get_by_role("status").get_by_text("Aino").wait_for()
    while page.locator(".dock").count():  # the others: nobody can say
        with page.expect_navigation():
            page.keyboard.press("u")
    assert names(server) == {first: "Aino"}

    # The second sequence: its encounters are compared with Aino.
    upload(page, tmp_path / "second", sequences[1], "second")
    page.goto("/review/next")
    page.locator(".candidate h3").get_by_text("Aino").wait_for()
    again = page.get_by_role("heading", level=1).inner_text()
    page.locator(".pair img, .pair svg").first.wait_for()
    page.keyboard.press("1")
    page.get_by_role("status").first.get_by_text("Aino").wait_for()
    assert exported(server)[again] == "Aino"
    assert [d.by for d in server[1].decisions()] == ["Mia"] * len(server[1].decisions())
    assert server[1].decisions()[-1].shown == ("Aino",)

    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Individuals").click()
    page.get_by_role("link", name="Aino").click()
    assert page.locator(".timeline circle").count() == 2


def test_pictures_can_be_compared(page, server):
    """Pattern, lines and turning are toggled by keys; crops are chosen by arrows."""
    token = page.request.get("/v1/encounters").json()[0]["token"]
    page.goto(f"/review/{token}")
    pattern = page.locator(".shot .pattern")
    if pattern.count():
        assert not pattern.first.is_visible()
        page.keyboard.press("p")
        assert pattern.first.is_visible()
        page.reload()
        assert pattern.first.is_visible()  # stays as it was
        page.keyboard.press("p")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.dataset.crop") == "1"
    page.keyboard.press("o")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.get_by_role("dialog").get_by_text("a new animal").is_visible()


def test_files_can_be_dropped(page, sequences, tmp_path):
    """Photos and a folder, as a mouse drops them."""
    (tmp_path / "folder").mkdir()
    for (name, content), folder in zip(sequences[0], (tmp_path, tmp_path / "folder", tmp_path / "folder"), strict=True):
        (folder / name).write_bytes(content)
    page.goto("/upload")
    box = page.locator("#drop").bounding_box()
    files = [str(tmp_path / sequences[0][0][0]), str(tmp_path / "folder")]
    mouse = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": files, "dragOperationsMask": 1}
        mouse.send("Input.dispatchDragEvent", {"type": kind, "x": box["x"] + 20, "y": box["y"] + 20, "data": data})
    page.get_by_text("3 files").wait_for()


CONTRAST = """() => {
  const rgb = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => c.slice(0, 3).map(v => linear(v / 255))
    .reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const text = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!text || !e.checkVisibility() || e.closest("svg, .unseen, .skip, script, option")) continue;
    let back = e, colour = [0, 0, 0, 0];
    while (back && colour[3] === 0) { colour = rgb(getComputedStyle(back).backgroundColor); back = back.parentElement; }
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(colour)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    const what = `${e.tagName} ${e.className} "${e.textContent.trim().slice(0, 30)}"`;
    if (ratio < 4.5) found.push(`${what} ${ratio.toFixed(2)}`);
  }
  return found;
}"""


NAMELESS = """() => [...document.querySelectorAll("button, a, input:not([type=hidden]), select")]
  .filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length || e.querySelector("img[alt]")))
  .map(e => e.outerHTML)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 820])
def test_every_page_can_be_read(browser, server, width, scheme):
    """WCAG AA: a contrast of 4.5, every control has a name, no page is wider than the window."""
    address, _, key = server
    context = browser.new_context(base_url=address, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto("/login")
    assert page.evaluate(CONTRAST) == []
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Enter").click()
    page.wait_for_url("**/")
    encounters = page.request.get("/v1/encounters").json()
    individuals = page.request.get("/v1/individuals").json()
    jobs = page.request.get("/v1/jobs").json()
    paths = ["/", "/review", "/individuals", "/upload", "/journal", "/export", "/nothing"]
    paths += [f"/review/{encounters[0]['token']}{more}" for more in ("", "?from_year=2001")] if encounters else []
    paths += [f"/individuals/{individuals[0]['token']}"] if individuals else []
    paths += [f"/jobs/{jobs[0]['job_id']}"] if jobs else []
    for path in paths:
        page.goto(path)
        assert page.evaluate(CONTRAST) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.evaluate(NAMELESS) == [], path
        assert page.locator("h1").count() == 1, path
    context.close()
