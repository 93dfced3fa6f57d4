import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pusa import weights
from pusa.errors import UserError
from pusa.pattern import extract, unet
from pusa.pattern.quality import Quality

FIXTURE = Path(__file__).parents[3] / "../shared/fixtures/unet"
needs_fixture = pytest.mark.skipif(not FIXTURE.is_dir(), reason="shared fixtures are not beside this clone")


@needs_fixture
def test_output_equals_keras():
    golden = np.load(FIXTURE / "golden.npz")
    network = unet.read_keras(FIXTURE / "unet_base4.hdf5")
    grey = torch.from_numpy(golden["input_u8"]).float()[None, None] / 255
    with torch.inference_mode():
        probability = network(grey).sigmoid()[0, 0].numpy()
    np.testing.assert_allclose(probability, golden["output"], atol=1e-4)


@needs_fixture
def test_every_keras_tensor_is_used():
    shapes = [tuple(shape) for _, shape in json.loads((FIXTURE / "weights.json").read_text())]
    parameters = sum(p.numel() for p in unet.read_keras(FIXTURE / "unet_base4.hdf5").parameters())
    assert parameters == sum(int(np.prod(s)) for s in shapes)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f["model_weights"]["conv2d_5"].attrs.__setitem__("weight_names", []), "expected 24 layers"),
        (lambda f: f["model_weights"]["conv2d_5"].attrs.__setitem__("weight_names", ["conv2d_5/bias:0"]), "conv2d_5"),
        (lambda f: f["model_weights"].attrs.__delitem__("layer_names"), "not a Keras checkpoint"),
        (lambda f: f["model_weights"].__delitem__("conv2d_7"), "not a Keras checkpoint"),
    ],
)
@needs_fixture
def test_foreign_keras_files_are_named(tmp_path, damage, message):
    path = tmp_path / "broken.hdf5"
    path.write_bytes((FIXTURE / "unet_base4.hdf5").read_bytes())
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(UserError, match=message):
        unet.read_keras(path)


def test_a_file_that_is_not_hdf5(tmp_path):
    path = tmp_path / "text.hdf5"
    path.write_text("no")
    with pytest.raises(UserError, match="not a Keras checkpoint"):
        extract.load(str(path))


def test_weights_file_round_trip(tmp_path):
    torch.manual_seed(0)
    network = unet.UNet(base=2).eval()
    path = tmp_path / "pattern.safetensors"
    weights.save(path, "pattern", {"network": {"base": 2}}, network.state_dict(), half=False)
    x = torch.rand(2, 1, 32, 48)
    with torch.inference_mode():
        assert torch.equal(extract.load(str(path)).network(x), network(x))
        assert network(x).shape == (2, 1, 32, 48)


def test_threshold_and_judge_come_with_the_weights(tmp_path):
    quality = Quality(mean=(0,) * 10, scale=(1,) * 10, weights=(1,) * 10, bias=0, threshold=0.5)
    settings = {"network": {"base": 2}, "threshold": 0.35, "quality": quality.model_dump()}
    path = tmp_path / "pattern.safetensors"
    weights.save(path, "pattern", settings, unet.UNet(base=2).state_dict())
    extractor = extract.PatternExtractor(extract.PatternConfig(weights=str(path), device="cpu"))
    assert extractor.quality == quality
    assert extractor.config.threshold == 0.35
    own = extract.PatternExtractor(extract.PatternConfig(weights=str(path), device="cpu", threshold=0.8))
    assert own.config.threshold == 0.8  # what the user says goes first
