"""The command line as a user meets it: one line and an exit code, never a traceback."""

import sys

import pytest

from commands.main import main


def run(monkeypatch, capsys, *arguments):
    """Exit code and what was printed to stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["pusa", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr()
    return end.value.code, printed.out, printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("index", "{tmp}/nowhere"), "There is no folder"),
        (("index", "{tmp}"), "There are no photos"),
        (("process", "{tmp}/nowhere", "--out", "{tmp}/run"), "There is no folder"),
        (("process", "{tmp}", "--out", "{tmp}/run", "--config", "{tmp}/c.yaml"), "Cannot read the settings file"),
        (("process", ".", "--out", "{tmp}/run", "--segmentation", "{tmp}/none.pth"), "There is no weights file"),
        (("identify", "{tmp}", "--gallery", "{tmp}/g"), "is not a run"),
        (("report", "{tmp}"), "is not a run"),
        (("gallery", "enroll", "{tmp}", "--gallery", "g", "--individuals", "names.csv"), "is not a run"),
        (("codebook", "fit", "{tmp}", "--out", "{tmp}/c.safetensors"), "is not a run"),
        (("train", "segmentation", "--coco", "truth.json", "--out", "{tmp}/w.safetensors"), "Expected FILE:FOLDER"),
        (("train", "embedding", "--seen", "run", "--out", "{tmp}/e.safetensors"), "Expected RUN:ARCHIVE"),
        (
            ("train", "patches", "--age", "{tmp}/a.safetensors", "--out", "{tmp}/p.safetensors"),
            "There is no weights file",
        ),
        (("evaluate", "run", "{tmp}", "--truth", "truth.json"), "is not a run"),
        (("process", ".", "--out", "{tmp}/run", "--instances", "{tmp}/nowhere.json"), "Cannot read {tmp}/nowhere.json"),
    ],
)
def test_errors_are_one_line(monkeypatch, capsys, tmp_path, arguments, message):
    code, out, err = run(monkeypatch, capsys, *(a.format(tmp=tmp_path) for a in arguments))
    assert code == 2
    assert message.format(tmp=tmp_path) in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err


def test_version(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "--version")
    assert (code, out.strip().count(".")) == (0, 2)


def test_an_unknown_flag_is_told_by_name(monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "process", "photos", "--uot", "run")
    assert code == 2
    assert "--uot" in err
