"""Weights files: round trip, and everything that can be wrong with one."""

import json

import pytest
import torch
from safetensors.torch import save_file

from pusa import weights
from pusa.errors import UserError


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def test_round_trip(tmp_path):
    first, path = network(), tmp_path / "w.safetensors"
    digest = weights.save(path, "pattern", {"base": 4}, first.state_dict())
    stored = weights.load(str(path), "pattern")
    assert (stored.settings, stored.digest, stored.kind) == ({"base": 4}, digest, "pattern")
    second = network()
    torch.nn.init.zeros_(second[0].weight)
    weights.load_into(second, stored)
    torch.testing.assert_close(second[0].weight, first[0].weight, atol=1e-3, rtol=1e-3)  # stored as float16
    assert second[0].weight.dtype == torch.float32


def test_the_same_tensors_give_the_same_file(tmp_path):
    digests = {weights.save(tmp_path / name, "pattern", {}, network().state_dict()) for name in ("a", "b")}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("starter/nothing", "no weights 'starter/nothing'"),  # an unknown name lists the known ones
        ("nowhere.safetensors", "no weights file nowhere.safetensors"),
    ],
)
def test_missing(name, message):
    with pytest.raises(UserError, match=message):
        weights.load(name, "pattern")


def test_not_safetensors(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"\x80\x04 a pickle, perhaps")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        weights.load(str(path), "pattern")


def test_foreign_header_and_wrong_kind(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="expected pattern weights, found no Pusa header"):
        weights.load(str(path), "pattern")
    weights.save(path, "embedding", {}, {"x": torch.zeros(1)})
    with pytest.raises(UserError, match="expected pattern weights, found embedding"):
        weights.load(str(path), "pattern")


def test_a_changed_starter_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "STARTER_DIR", tmp_path)
    digest = weights.save(tmp_path / "pattern.safetensors", "pattern", {}, {"x": torch.zeros(1)})
    (tmp_path / "index.json").write_text(json.dumps({"pattern": digest}))
    assert weights.load("starter/pattern", "pattern").digest == digest
    weights.save(tmp_path / "pattern.safetensors", "pattern", {}, {"x": torch.ones(1)})
    with pytest.raises(UserError, match="damaged"):
        weights.load("starter/pattern", "pattern")


def test_names_and_shapes_must_fit(tmp_path):
    path = tmp_path / "w.safetensors"
    state = network().state_dict()
    state["0.weight"] = torch.zeros(2, 5)
    state["extra"] = state.pop("0.bias")
    weights.save(path, "pattern", {}, state)
    with pytest.raises(UserError, match=r"missing \['0.bias'\], not known \['extra'\], shapes \['0.weight \(2, 5\)"):
        weights.load_into(network(), weights.load(str(path), "pattern"))
