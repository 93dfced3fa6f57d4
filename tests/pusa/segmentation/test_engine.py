import sys

import numpy as np
import pytest
import torch

from pusa import weights
from pusa.errors import UserError
from pusa.segmentation import masks
from pusa.segmentation.engine import Detectron2Segmenter, open_segmenter
from pusa.segmentation.mask_rcnn import build
from pusa.segmentation.segmenter import SegmentationConfig, Segmenter


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Weights whose proposals are the anchors, with boxes scored at random."""
    torch.manual_seed(0)
    network = build({"architecture": "R_50_FPN", "classes": 1}).eval()
    for name, module in network.named_modules():
        if name.endswith("conv3"):
            module.norm.weight *= 0.25
    torch.nn.init.zeros_(network.rpn.head.anchor_deltas.weight)
    network.roi_heads.box_predictor.cls_score.weight.data *= 20
    network.roi_heads.mask_head.predictor.weight.data *= 100
    file = tmp_path_factory.mktemp("weights") / "w.safetensors"
    weights.save(file, "segmentation", {"architecture": "R_50_FPN", "classes": 1}, network.state_dict(), half=False)
    return SegmentationConfig(weights=str(file), device="cpu", shorter_side=96, longer_side=160, half=False)


def test_both_engines_find_the_same(config):
    pytest.importorskip("detectron2", reason="detectron2 is not installed (docs/segmentation.md)")
    photos = [np.random.default_rng(n).integers(0, 255, size, dtype=np.uint8) for n, size in
              enumerate(((90, 120, 3), (200, 100, 3)))]  # fmt: skip
    theirs = open_segmenter(config.model_copy(update={"engine": "detectron2"}))
    assert isinstance(theirs, Detectron2Segmenter)
    for ours, other in zip(open_segmenter(config).segment(photos, 0.4), theirs.segment(photos, 0.4), strict=True):
        assert len(ours) == len(other) > 0
        np.testing.assert_allclose(ours.boxes, other.boxes, atol=1e-3)
        np.testing.assert_allclose(ours.scores, other.scores, atol=1e-4)
        differing = sum((masks.decode(a) ^ masks.decode(b)).sum() for a, b in zip(ours.masks, other.masks, strict=True))
        assert differing <= 0.002 * sum(map(masks.area, ours.masks))


def test_where_it_is_not_installed(config, monkeypatch):
    for name in ("detectron2", "detectron2.modeling"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="needs detectron2, which is not installed here"):
        open_segmenter(config.model_copy(update={"engine": "detectron2"}))


def test_a_network_that_it_does_not_have(monkeypatch):
    pytest.importorskip("detectron2", reason="detectron2 is not installed (docs/segmentation.md)")
    with pytest.raises(UserError, match="not a network that detectron2 has"):
        open_segmenter(SegmentationConfig(engine="detectron2", device="cpu"))


def test_half_precision_can_be_declined(config):
    assert Segmenter(config).dtype == torch.float32
