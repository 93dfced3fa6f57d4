import pytest
import typer
from typer.testing import CliRunner

from commands.synth import synth
from pusa.errors import UserError


def _run(*arguments: str):
    app = typer.Typer()
    app.command()(synth)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_writes_an_archive_and_says_what_is_in_it(tmp_path):
    out = tmp_path / "archive"
    result = _run(out, "--photos", 3, "--sequences", 1, "--individuals", 1)
    assert result.exit_code == 0, result.output
    lines = {tuple(line.split()) for line in result.output.splitlines()}
    assert {("photos", "3"), ("sequences", "1"), ("individuals", "1")} <= lines
    assert len(list((out / "photos").rglob("*.JPG"))) == 3
    assert (out / "truth" / "instances.json").is_file()
    assert (out / "deployments.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "moon"), "demo, hard"),
        (("--photos", 5), "at least 30 photos"),
        (("--seed", -1), "seed"),
        (("--sequences", 0), "sequences"),
    ],
)
def test_impossible_wishes(tmp_path, arguments, message):
    result = _run(tmp_path / "archive", *arguments)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert not (tmp_path / "archive").exists()
