"""`pusa report`: which gallery the pictures come from, and what is printed."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import typer
from typer.testing import CliRunner

from commands.report import report
from pusa import photos, records
from pusa.errors import UserError
from pusa.fisher.codebook import Codebook, Mixture
from pusa.gallery.store import Gallery
from pusa.records import Run

app = typer.Typer()
app.command()(report)
MANIFEST = {
    "state": "finished",
    "archive": "photos",
    "begun": "2021-10-01T08:00:00Z",
    "version": "0.1.0",
    "seconds": 1.5,
    "weights": {},
    "config": {"encounters": {"codebook": "starter/codebook"}},
    "instances": None,
}


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def run(tmp_path):
    """A run of 41 encounters of one instance each, all with the candidate Aino."""
    run = Run(str(tmp_path / "run [2021]"))  # brackets are markup for rich
    instance = records.new_instance(
        "a#0",
        mask={"size": [8, 8], "counts": "P2"},  # empty
        crop_box=[0, 0, 8, 8],
        crop=photos.encode_jpeg(np.zeros((8, 8, 3), np.uint8)),
        usable=True,
    )
    photo = {"photo_id": "a", "path": "s/a.JPG", "sequence_id": "s", "status": "ok", "instances": [instance]}
    run.write("photos", pa.Table.from_pylist([photo], records.PHOTOS), "a")
    ids = [f"s#{i}" for i in range(41)]
    rows = [{"encounter_id": i, "sequence_id": "s", "instance_ids": ["a#0"], "n_patches": 1} for i in ids]
    run.write("encounters", pa.Table.from_pylist(rows, records.ENCOUNTERS), "a")
    rows = [{"encounter_id": i, "rank": 1, "individual": "Aino", "distance": 0.5} for i in ids]
    run.write("candidates", pa.Table.from_pylist(rows, records.CANDIDATES), "a")
    run.write_manifest(MANIFEST)
    return run


@pytest.fixture
def gallery(tmp_path):
    mixture = Mixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2))
    uri = str(tmp_path / "gallery")
    row = {"run": "r", "encounter_id": "e", "individual": "Aino", "n_patches": 1}
    row |= {"fisher": [1.0, 0, 0, 0], "thumbnail": photos.encode_jpeg(np.zeros((9, 9, 3), np.uint8))}
    Gallery.create(uri, Codebook(torch.zeros(2), torch.eye(2), mixture, digest="c")).enroll(pa.Table.from_pylist([row]))
    return uri


def page(run):
    with open(run.file("report.html"), encoding="utf-8") as f:
        return f.read()


def test_prints_the_first_page_and_how_many_there_are(run):
    result = invoke(run.uri)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [run.file("report.html"), "2 pages, the last is report-2.html"]
    assert page(run).count("no picture") == 40


@pytest.mark.parametrize("recorded", [True, False])  # by `pusa identify`, or given here
def test_pictures_of_the_gallery(run, gallery, recorded):
    if recorded:
        run.write_manifest(MANIFEST | {"gallery": gallery})
    result = invoke(run.uri, *([] if recorded else ["--gallery", gallery]))
    assert result.exit_code == 0, result.output
    assert page(run).count('alt="Aino"') == 40
    assert f"<code>{gallery}</code>" in page(run)


def test_a_recorded_gallery_that_is_gone_is_named_but_not_needed(run, tmp_path):
    run.write_manifest(MANIFEST | {"gallery": str(tmp_path / "gone")})
    assert invoke(run.uri).exit_code == 0
    assert str(tmp_path / "gone") in page(run)
    assert page(run).count("no picture") == 40


@pytest.mark.parametrize(
    ("manifest", "arguments", "words"),
    [
        (MANIFEST, ["--gallery", "nowhere"], "no gallery at nowhere"),
        ({"state": "running", "command": "pusa process photos"}, [], "Resume it with: pusa process photos"),
        (None, [], "is not a run"),
    ],
)
def test_what_cannot_be_reported(run, manifest, arguments, words):
    if manifest is None:
        run.fs.delete_file(run.file("manifest.json"))
    else:
        run.write_manifest(manifest)
    result = invoke(run.uri, *arguments)
    assert isinstance(result.exception, UserError)
    assert words in str(result.exception)
    assert not Path(run.file("report.html")).exists()
