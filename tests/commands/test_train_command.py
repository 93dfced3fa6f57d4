"""`pusa train embedding`, `marks` and `sides`: which settings follow from the options."""

import contextlib

import pytest
from typer.testing import CliRunner

from commands import train
from pipelines import cluster
from pusa.errors import UserError
from pusa.records import Run
from training import trainer

CASES = [
    # options, then settings that are expected and settings that are not given
    (["--named", "run:names.csv"], {"coats": 0, "steps": 800, "start": "starter/embedding"}, {"network"}),
    (["--named", "run:names.csv", "--start", "mine"], {"coats": 0, "start": "mine"}, set()),
    (["--named", "run:names.csv", "--config", "own.yaml"], {}, {"coats", "steps", "start"}),  # the file's, or defaults
    (["--paper", "--artificial", "set"], {"coats": 0, "steps": 1563, "network": {"width": 64}}, {"start"}),
    ([], {}, {"coats", "steps", "start"}),
]


@pytest.mark.parametrize(("options", "expected", "absent"), CASES)
def test_settings_of_the_patch_network(options, expected, absent, monkeypatch):
    seen = {}
    monkeypatch.setattr(train, "_train", lambda *args, **flags: seen.update(flags))
    result = CliRunner().invoke(train.app, ["embedding", "--out", "w.safetensors", *options])
    assert result.exit_code == 0, result.output
    assert {key: seen[key] for key in expected} == expected
    assert not absent & seen.keys()
    assert [(run.name, file.name) for run, file in seen["named"]] == [("run", "names.csv")] * ("--named" in options)


STARTS = [
    # key points in the run's settings, further options, and the weights that go on learning
    ({"marks": "starter/rings"}, [], "starter/rings"),
    ({"marks": "mine.safetensors"}, [], "mine.safetensors"),
    (None, [], "starter/rings"),  # of an older version: the default
    ({"marks": None}, [], "starter/marks"),  # RootSIFT cannot learn
    ({"marks": "starter/rings"}, ["--start", "starter/marks"], "starter/marks"),
]


@pytest.mark.parametrize(("keypoints", "options", "start"), STARTS)
def test_the_network_of_the_run_goes_on_learning(keypoints, options, start, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(train, "_train", lambda *args, **flags: seen.update(flags))
    Run(str(tmp_path / "run")).write_manifest({"config": {"keypoints": keypoints} if keypoints else {}})
    options = ["--named", f"{tmp_path / 'run'}:names.csv", *options, "--out", "w.safetensors"]
    result = CliRunner().invoke(train.app, ["marks", *options])
    assert result.exit_code == 0, result.output
    assert (seen["start"], seen["steps"]) == (start, 800)


@pytest.mark.parametrize(
    ("start", "expected"), [("mine.safetensors", "{here}/mine.safetensors"), ("starter/age", "starter/age")]
)
@pytest.mark.parametrize("way", ["option", "file"])
def test_weights_to_go_on_from_are_found_from_any_folder(start, expected, way, tmp_path, monkeypatch):
    """Workers of Ray Train run in a folder of their own."""
    seen = []
    monkeypatch.setattr(cluster, "connect", lambda *args, **options: contextlib.nullcontext())
    monkeypatch.setattr(cluster, "resources", lambda: (1, 0))
    monkeypatch.setattr(trainer, "fit", lambda loop, settings, *rest: seen.append(settings))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.safetensors").touch()
    (tmp_path / "age.yaml").write_text(f"start: {start}")
    options = ["--start", start] if way == "option" else ["--config", "age.yaml"]
    result = CliRunner().invoke(train.app, ["age", "--run", "run", "--out", "w.safetensors", *options])
    assert result.exit_code == 0, result.output
    assert seen[0].start == expected.format(here=tmp_path)
    (tmp_path / "age.yaml").write_text("start: lost.safetensors")
    result = CliRunner().invoke(train.app, ["age", "--run", "run", "--out", "w.safetensors", "--config", "age.yaml"])
    assert isinstance(result.exception, UserError)
    assert "no weights file lost.safetensors" in str(result.exception)


def test_sides_are_learnt_from_files_and_runs(monkeypatch):
    seen = {}
    monkeypatch.setattr(train, "_train", lambda *args, **flags: seen.update(flags))
    options = ["--coco", "a.json:photos", "--found", "run:a.json", "--found", "other:b.json", "--out", "w.safetensors"]
    result = CliRunner().invoke(train.app, ["sides", *options])
    assert result.exit_code == 0, result.output
    names = {key: [(a.name, b.name) for a, b in seen[key]] for key in ("coco", "found", "validation")}
    expected = {"coco": [("a.json", "photos")], "found": [("run", "a.json"), ("other", "b.json")], "validation": []}
    assert names == expected
