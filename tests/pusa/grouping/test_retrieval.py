"""Networks against reference outputs of cnnimageretrieval-pytorch, and checkpoints that are refused.

The reference's weights are made anew from names and shapes by its recipe (numpy only): no weights are stored.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pusa.errors import UserError
from pusa.grouping import retrieval
from pusa.grouping.descriptor import Describer, DescriptorConfig

FIXTURES = Path(__file__).resolve().parents[4] / "shared" / "fixtures" / "retrieval"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the reference outputs are not here")
SCALES = (1.0, 2**-0.5, 0.5)


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("recipe", FIXTURES / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["gem_fc", "gem_lw", "mac"])
def case(request, recipe, tmp_path_factory):
    """A checkpoint's file, what the reference made of it, and its name."""
    about = json.loads((FIXTURES / f"{request.param}.json").read_text())
    state = {t["name"]: torch.from_numpy(recipe.make_tensor(t["name"], t["shape"])) for t in about["state_dict"]}
    meta = dict(about["checkpoint"]["meta"])
    if "Lw" in meta:
        meta["Lw"] = {"retrieval-SfM-120k": {kind: recipe.make_projection(kind) for kind in ("ss", "ms")}}
    path = tmp_path_factory.mktemp("checkpoint") / f"{request.param}.pth"
    torch.save({"epoch": 1, "meta": meta, "state_dict": state, "min_loss": 0.5, "optimizer": {}}, path)
    return str(path), np.load(FIXTURES / f"{request.param}.npz"), request.param


def picture(which: str) -> torch.Tensor:
    pixels = np.load(FIXTURES / "input.npz")[which]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


@needs_fixtures
@torch.inference_mode()
def test_equal_to_the_reference(case):
    path, expected, name = case
    network = retrieval.build("resnet101", path, "gem", 3.0)
    for which in ("A", "B"):
        x = picture(which)
        maps = network.features((x - network.mean) / network.std)
        assert list(maps.shape) == expected[f"{which}.features.shape"].tolist()
        np.testing.assert_allclose(network(x)[0], expected[f"{which}.ss"].ravel(), atol=2e-6)
        np.testing.assert_allclose(network(x, SCALES)[0], expected[f"{which}.ms"].ravel(), atol=2e-6)
    if name == "gem_lw":
        stored = retrieval.read(path)
        for scales, kind in (((1.0,), "ss"), (SCALES, "ms")):
            whitening = retrieval.projection(stored, len(scales) > 1, path)
            found = network(picture("A"), scales).numpy()
            np.testing.assert_allclose(whitening(found)[0], expected[f"A.{kind}.whitened"].ravel(), atol=2e-6)
            np.testing.assert_allclose(whitening(found, 128)[0], expected[f"A.{kind}.whitened_128"].ravel(), atol=1e-5)


@needs_fixtures
def test_a_describer_with_a_checkpoint(case):
    """The same picture through the stage: a crop of the size of the network's input is not scaled."""
    path, expected, name = case
    crop = np.load(FIXTURES / "input.npz")["A"]
    config = DescriptorConfig(weights=path, size=317, device="cpu", whitening="Lw" if name == "gem_lw" else None)
    describer = Describer(config, threads=2)
    if describer.network.features[0].weight.dtype == torch.float32:
        wanted = expected["A.ss.whitened" if name == "gem_lw" else "A.ss"].ravel()
        np.testing.assert_allclose(describer.describe(crop), wanted, atol=2e-6)
    else:  # bfloat16, as on CPUs that compute in it
        assert describer.describe(crop) @ expected["A.ss.whitened" if name == "gem_lw" else "A.ss"].ravel() > 0.99


@pytest.fixture
def small(tmp_path):
    """Writes a checkpoint of a small network, changed by the test; returns its path."""

    def write(change=lambda stored: None) -> str:
        features = retrieval.torchvision_features("resnet18")
        state = {f"features.{k}": v for k, v in features.state_dict().items()} | {"pool.p": torch.tensor([3.0])}
        meta = {"architecture": "resnet18", "pooling": "gem", "mean": [0.5] * 3, "std": [0.2] * 3, "outputdim": 512}
        stored = {"meta": meta, "state_dict": state}
        change(stored)
        torch.save(stored, tmp_path / "c.pth")
        return str(tmp_path / "c.pth")

    return write


def test_old_files_have_no_counters(small):
    def change(stored):
        for name in [n for n in stored["state_dict"] if n.endswith("num_batches_tracked")]:
            del stored["state_dict"][name]

    assert retrieval.build("", small(change), "gem", 3.0)(torch.rand(1, 3, 64, 96)).shape == (1, 512)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["meta"].update(architecture="resnet34"), "does not fit its architecture: missing"),
        (lambda s: s["meta"].update(architecture="resnet99"), "no network 'resnet99'"),
        (lambda s: s["meta"].update(pooling="rmac"), "only GeM and MAC"),
        (lambda s: s["meta"].update(regional=True), "only GeM and MAC"),
        (lambda s: s["meta"].pop("mean"), "not a complete checkpoint"),
        (lambda s: s.pop("state_dict"), "not a complete checkpoint"),
        (lambda s: s["state_dict"].update({"features.9.weight": torch.zeros(1)}), "not known .'9.weight'"),
        (lambda s: s["state_dict"].update({"features.0.weight": torch.zeros(1)}), "other shapes .'0.weight'"),
        (lambda s: s.update(run=print), "read safely"),  # a function: would have to be unpickled freely
    ],
)
def test_what_does_not_fit_is_refused(small, change, message):
    with pytest.raises(UserError, match=message):
        retrieval.build("", small(change), "gem", 3.0)


def test_torchvisions_own_files(tmp_path):
    """A file of torchvision's weights, under torchvision's names, for a network by name."""
    import torchvision

    model = torchvision.models.resnet18(weights=None).eval()
    torch.save(model.state_dict(), tmp_path / "resnet18-f37072fd.pth")
    network = retrieval.build("resnet18", str(tmp_path / "resnet18-f37072fd.pth"), "mac", 3.0)
    x = torch.rand(1, 3, 64, 64)
    kept = {}
    model.layer4.register_forward_hook(lambda module, inputs, output: kept.update(maps=output))
    with torch.inference_mode():
        model((x - network.mean) / network.std)
        torch.testing.assert_close(network(x), retrieval.l2_normalise(kept["maps"].amax((2, 3))))
    with pytest.raises(UserError, match="does not fit"):
        retrieval.build("resnet34", str(tmp_path / "resnet18-f37072fd.pth"), "mac", 3.0)


@pytest.mark.parametrize("name", ["vgg11", "alexnet", "squeezenet1_0", "densenet121", "resnext50_32x4d"])
def test_any_torchvision_classifier(name):
    with torch.inference_mode():
        found = retrieval.RetrievalNetwork(retrieval.torchvision_features(name)).eval()(torch.rand(1, 3, 64, 64))
    assert torch.isfinite(found).all()
    assert found.norm() == pytest.approx(1, abs=1e-3)


def test_weights_that_are_not_here():
    with pytest.raises(UserError, match="ImageNet weights of resnet101 are not here"):
        Describer(DescriptorConfig(backbone="resnet101", whitening=None))
    with pytest.raises(UserError, match=r"Cannot read nowhere\.pth"):
        Describer(DescriptorConfig(weights="nowhere.pth", whitening=None))
