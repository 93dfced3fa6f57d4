"""`pusa export` and `pusa report GALLERY`: files, notices, and what is asked for."""

import csv
import json
import shutil

import made_gallery
import pytest
import typer
from typer.testing import CliRunner

from commands.export import Format, export
from commands.report import report
from pusa.errors import UserError
from pusa.exchange.export import FORMATS
from pusa.gallery.store import Gallery

METADATA = """\
contributors: [{title: Mia}]
project: {title: P, samplingDesign: targeted, captureMethod: [timeLapse]}
taxonomic: [{scientificName: Pusa hispida}]
"""
DEPLOYMENTS = """\
deployment_id,folder,place,latitude,longitude,time_zone,start,end
N,north,North,61,31,Europe/Helsinki,2021-06-01,2021-06-30
S,south,South,60,31,Europe/Helsinki,2021-06-15,2021-07-31
"""
HISTORIES = {"effort.csv", "occasions.csv"}
FILES = {
    "camtrap-dp": {"datapackage.json", "deployments.csv", "media.csv", "observations.csv"},
    "mark": {"left.inp", "right.inp"} | HISTORIES,
    "rmark": {"left.csv", "right.csv", "read.R"} | HISTORIES,
    "secr": {"left-captures.txt", "left-traps.txt", "right-captures.txt", "right-traps.txt", "read.R"} | HISTORIES,
    "oscr": {"left-edf.csv", "left-tdf.csv", "right-edf.csv", "right-tdf.csv", "read.R"} | HISTORIES,
    "wildlife-datasets": {"metadata.csv"},
    "coco": {"instances.json"},
    "megadetector": {"detections.json"},
    "csv": {"individuals.csv", "encounters.csv", "instances.csv", "deployments.csv"},
}


@pytest.fixture
def gallery(tmp_path):
    """Of a run that has gone since."""
    run = made_gallery.run(tmp_path / "run")
    made = made_gallery.gallery(tmp_path / "g", run)
    shutil.rmtree(run.path)
    return made


def invoke(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_the_command_knows_every_format():
    assert {f.value for f in Format} == set(FORMATS) == set(FILES)


@pytest.mark.parametrize("form", sorted(FILES))
def test_every_format(tmp_path, gallery, form):
    (tmp_path / "m.yaml").write_text(METADATA)
    (tmp_path / "d.csv").write_text(DEPLOYMENTS)
    (tmp_path / "out").mkdir()
    told = invoke(export, gallery.uri, "--format", form, "--out", tmp_path / "out", "--metadata", tmp_path / "m.yaml",
                  "--deployments", tmp_path / "d.csv")  # fmt: skip
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES[form]
    assert "2 individuals in 4 encounters, of 5" in told


def test_a_single_file_goes_where_it_is_told(tmp_path, gallery):
    invoke(export, gallery.uri, "--format", "coco", "--out", tmp_path / "a" / "b.json", "--species", "ringed seal")
    content = json.loads((tmp_path / "a" / "b.json").read_text())
    assert content["categories"][0]["name"] == "ringed seal"
    assert [a.get("identity") for a in content["annotations"]] == ["Aino", "Aino", "Bo", "Aino", None, "Bo"]


def test_occasions_and_side(tmp_path, gallery):
    out = tmp_path / "out"
    (tmp_path / "o.csv").write_text("occasion,first,last\nearly,2021-06-01,2021-06-05\nlate,2021-06-06,2021-06-30\n")
    told = invoke(
        export, gallery.uri, "--format", "mark", "--out", out, "--occasion", tmp_path / "o.csv", "--side", "any"
    )
    assert (out / "pooled.inp").read_text().splitlines()[1:] == ["/* Aino */ 11 1 ;", "/* Bo */ 11 1 ;"]
    assert (out / "effort.csv").read_text() == "place,early,late\nNorth,5,25\nSouth,0,2\n"
    assert "notice: 1 deployments (S) have no start and end" in told


@pytest.mark.parametrize(("arguments", "message"), [
    (("--format", "camtrap-dp"), "needs what only you know: contributors, taxonomic, project.title"),
    (("--format", "mark", "--occasion", "fortnight"), "no occasions 'fortnight'. Expected day, week"),
    (("--format", "mark", "--side", "left", "--deployments", "none.csv"), "Cannot read none.csv"),
    (("--format", "camtrap-dp", "--metadata", "none.yaml"), "Cannot read the settings file none.yaml"),
])  # fmt: skip
def test_what_is_missing(tmp_path, gallery, arguments, message):
    with pytest.raises(UserError, match=message):
        invoke(export, gallery.uri, "--out", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_files_is_no_file(tmp_path, gallery):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"is a file\. This format has several files"):
        invoke(export, gallery.uri, "--format", "csv", "--out", tmp_path / "file")


def test_an_empty_gallery(tmp_path):
    made = made_gallery.gallery(tmp_path / "g")
    with pytest.raises(UserError, match=r"has no encounters\. `pusa gallery enroll"):
        invoke(export, made.uri, "--format", "csv", "--out", tmp_path / "out")
    assert "No individual is decided yet" in (invoke(report, made.uri) and (tmp_path / "g" / "report.html").read_text())


def test_the_report_of_a_gallery(tmp_path, gallery):
    told = invoke(report, gallery.uri)
    assert "report.html" in told
    assert "7 plots and tables" in told
    with (tmp_path / "g" / "report" / "individuals.csv").open() as f:
        rows = [tuple(row.values()) for row in csv.DictReader(f)]
    assert rows == [
        ("Aino", "2", "2021-06-03", "2021-06-09", "North", "left+right"),
        ("Bo", "2", "2021-06-03", "2021-06-20", "North; South", "right"),
    ]
    assert Gallery.open(gallery.uri).counts()["encounters"] == 5  # its files are none of the store's


def test_what_is_for_runs_and_what_for_galleries(tmp_path, gallery):
    with pytest.raises(UserError, match="is a gallery: --gallery and --sheets are for runs"):
        invoke(report, gallery.uri, "--sheets")
    run = made_gallery.run(tmp_path / "run2")
    with pytest.raises(UserError, match="--deployments is for a gallery"):
        invoke(report, run.uri, "--deployments", "d.csv")
    with pytest.raises(UserError, match="is not a run"):
        invoke(report, tmp_path / "nothing")
