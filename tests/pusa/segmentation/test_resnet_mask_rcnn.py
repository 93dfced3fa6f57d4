"""The paper's six networks beside numbers that detectron2 itself gave (../shared/fixtures/detectron2/README.md)."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from pusa.segmentation import detectron2, masks
from pusa.segmentation.mask_rcnn import build
from pusa.segmentation.segmenter import paste

SIX = [f"R_{depth}_{kind}" for depth in (50, 101) for kind in ("FPN", "C4", "DC5")]


class Reference:
    """The fixture of one architecture, and our network with its weights."""

    def __init__(self, folder, name):
        spec = importlib.util.spec_from_file_location("recipe", folder / "recipe.py")
        recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(recipe)
        config = f"mask_rcnn_{name}_3x"
        self.values = np.load(folder / f"{config}.npz")
        self.image = np.load(folder / "input.npz")
        entries = json.loads((folder / f"{config}.state_dict.json").read_text())["tensors"]
        tensors = recipe.make_state_dict(config, {e["name"]: tuple(e["shape"]) for e in entries})
        self.tensors = {key: torch.from_numpy(value) for key, value in tensors.items()}
        self.network = build({"architecture": name, "classes": 1}).eval()
        assert set(detectron2.theirs(self.network.state_dict())) == set(self.tensors)
        self.network.load_state_dict({detectron2.ours(k): v for k, v in self.tensors.items()})
        self.network.rpn._post_nms_top_n["testing"] = len(self.values["proposals.boxes"])  # C4's has fewer

    def difference(self, key, found):
        """Largest difference to the fixture's values, in shares of the largest value."""
        found = found.float().contiguous().numpy()
        if key in self.values.files:
            expected = self.values[key]
        else:
            assert found.shape == tuple(self.values[f"{key}.shape"])
            found, expected = found.flatten()[self.values[f"{key}.index"]], self.values[f"{key}.value"]
        return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.fixture(scope="module", params=SIX)
def reference(request, shared):
    return Reference(shared / "fixtures" / "detectron2", request.param)


@torch.inference_mode()
def test_equals_detectron2(reference):
    """From the front to the back: what differs first is where the mistake is."""
    network, values = reference.network, reference.values
    rgb = torch.from_numpy(reference.image["resized_bgr"][..., ::-1].copy()).permute(2, 0, 1).float() / 255
    size = tuple(rgb.shape[1:])
    pixels = network.transform.batch_images([network.transform.normalize(rgb)], network.transform.size_divisible)
    assert reference.difference("input", pixels) < 1e-6

    resnet = getattr(network.backbone, "bottom_up", network.backbone)
    for name, found in resnet.maps(pixels):
        assert reference.difference(f"bottom_up.{name}", found) < 2e-5, name
    features = network.backbone(pixels)
    for name, found in features.items():
        if name.startswith("p"):
            assert reference.difference(f"feature.{name}", found) < 2e-5, name

    logits, changes = network.rpn.head(list(features.values()))
    for level, (a, b) in enumerate(zip(logits, changes, strict=True)):
        assert reference.difference(f"rpn.logits.{level}", a) < 2e-5
        assert reference.difference(f"rpn.deltas.{level}", b) < 2e-5
    photo = ImageList(pixels, [size])
    anchors = network.rpn.anchor_generator(photo, list(features.values()))[0]
    start = 0
    for level, found in enumerate(logits):
        mine = anchors[start : start + found[0].numel()]
        assert len(mine) == values[f"anchors.{level}.count"]
        first = values[f"anchors.{level}.first"]
        np.testing.assert_allclose(mine[: len(first)], first, atol=1e-4)
        last = values[f"anchors.{level}.last"]
        np.testing.assert_allclose(mine[len(mine) - len(last) :], last, atol=1e-4)
        start += len(mine)

    proposals, _ = network.rpn(photo, features)
    expected = values["proposals.boxes"]
    np.testing.assert_allclose(proposals[0][:20], expected[:20], atol=2e-3)
    gaps = np.abs(proposals[0].numpy()[:, None] - expected).max(-1).min(1)
    assert (gaps < 0.01).mean() >= 0.99

    found = network.roi_heads(features, proposals, [size])[0][0]
    np.testing.assert_allclose(found["boxes"], values["detections.boxes"], atol=2e-3)
    np.testing.assert_allclose(found["scores"], values["detections.scores"], atol=5e-5)
    np.testing.assert_allclose(found["masks"], values["detections.mask_probs"], atol=1e-4)
    assert (found["labels"] == 1).all()


def test_resizing_equals_detectron2s(reference):
    small = reference.image["resized_bgr"]
    resized = reference.network.resize(reference.image["image_bgr"], *small.shape[:2])
    assert (resized == small).all()


def test_masks_are_pasted_as_by_detectron2(reference):
    values = reference.values
    expected = np.unpackbits(values["output.masks.packed"])[: np.prod(values["output.masks.shape"])]
    expected = expected.reshape(values["output.masks.shape"]).astype(bool)
    for probability, box, mask in zip(
        values["detections.mask_probs"], values["output.boxes"], expected, strict=True
    ):  # fmt: skip
        pasted = masks.decode(paste(probability[0], box, *mask.shape))
        assert (pasted ^ mask).sum() <= 0.001 * mask.sum()
