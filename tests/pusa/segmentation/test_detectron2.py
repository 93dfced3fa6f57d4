import collections
import os
import pickle

import numpy as np
import pytest
import torch

from pusa.errors import UserError
from pusa.segmentation import detectron2
from pusa.segmentation.mask_rcnn import ARCHITECTURES, build, load
from pusa.segmentation.segmenter import SegmentationConfig, Segmenter
from pusa.segmentation.train import SegmentationTraining, start_network

SIX = [name for name in ARCHITECTURES if name != "lite"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build({"architecture": "R_50_FPN", "classes": 1}).eval()


@pytest.fixture(scope="module")
def tensors(network):
    """As detectron2 names them, with what older versions save too."""
    extra = {"pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1),
             "proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4)}  # fmt: skip
    return detectron2.theirs(network.state_dict()) | extra


def zoo(tensors):
    """The content of a file of the model zoo."""
    return {"model": {k: v.numpy() for k, v in tensors.items()}, "__author__": "Detectron2 Model Zoo"}


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_model_zoo_and_trainer_write_the_same_network(network, tensors, tmp_path, protocol):
    few = {k: v for k, v in tensors.items() if "res5" not in k and "fc1" not in k}  # the large ones
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps(zoo(few), protocol))
    found = detectron2.read(tmp_path / "model_final.pkl")
    expected = network.state_dict()
    assert set(found.tensors) == {detectron2.ours(k) for k in few} & set(expected)
    assert all(torch.equal(found.tensors[k], expected[k]) for k in found.tensors)
    assert found.settings == {"architecture": "R_50_FPN", "classes": 1}


def test_a_trainers_checkpoint_is_given_as_weights(network, tensors, tmp_path):
    file = tmp_path / "R-50-FPN_150ims.pth"
    other = {"optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}}, "scheduler": {"last_epoch": 7}}
    torch.save({"model": collections.OrderedDict(tensors), "iteration": 7} | other, file)
    photo = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    config = SegmentationConfig(weights=str(file), device="cpu", shorter_side=64, longer_side=96)
    found = Segmenter(config).segment([photo], 0.0)[0]
    expected = Segmenter(config, network=network).segment([photo], 0.0)[0]
    assert len(found) > 0
    assert found.masks == expected.masks
    np.testing.assert_array_equal(found.boxes, expected.boxes)


@pytest.mark.parametrize("name", SIX)
def test_architecture_and_classes_follow_from_the_tensors(name):
    state = build({"architecture": name, "classes": 3}).state_dict()
    assert detectron2._settings("x.pth", state) == {"architecture": name, "classes": 3}


class Evil:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".pkl", pickle.dumps({"model": Evil()}), "it wants posix.system"),
        (".pth", pickle.dumps({"model": Evil()}), "was not read"),
        (".pkl", pickle.dumps({"model": np.array([Evil()], object)}), "it wants posix.system"),  # inside an array
        (".pkl", b"cnumpy\nload\n.", "it wants numpy.load"),  # of NumPy, but no array
        (".pkl", b"\x80\x04K", "was not read"),  # cut short
        (".pth", b"", "was not read"),
        (".pkl", pickle.dumps([1, 2]), "found list"),
        (".pkl", pickle.dumps({"model": {"backbone.fpn_lateral2.weight": np.zeros(1, np.float32)}}),
         "no box predictor, no mask head, 0 blocks in res4"),  # another network
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, suffix, content, message):
    file = tmp_path / f"w{suffix}"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        detectron2.read(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("roi_heads.box_head.fc2.bias"), "missing .*roi_heads.box_head.fc2.bias"),
        (lambda t: t.update({"roi_heads.keypoint_head.weight": torch.zeros(1)}), "not known .*keypoint_head"),
        (
            lambda t: t.update({"backbone.fpn_output2.bias": torch.zeros(7)}),
            r"fpn_output2.bias \(7,\) instead",
        ),
    ],
)
def test_missing_extra_and_other_tensors_are_named(tensors, tmp_path, change, message):
    changed = dict(tensors)
    change(changed)
    torch.save(changed, tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        load(str(tmp_path / "w.pth"))


def msra(network):
    """The ResNet of a network under the names of MSRA's files, which have no means and variances."""
    names = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}
    result = {"fc1000_w": np.zeros((2, 2), np.float32)}
    for name, tensor in network.backbone.bottom_up.state_dict().items():
        stage, *rest, end = name.replace(".norm.weight", ".bn_s").replace(".norm.bias", ".bn_b").split(".")
        end = "w" if end == "weight" else end
        if end in ("w", "bn_s", "bn_b"):
            layer = f"{stage}_{rest[0]}_{names[rest[1]]}" if stage != "stem" else "conv1" if end == "w" else "res_conv1"
            result[f"{layer}_{end}"] = tensor.numpy()
    return result


@pytest.mark.parametrize("kind", ["FPN", "C4", "DC5"])
def test_imagenet_weights_of_msra(network, tmp_path, kind):
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(msra(network)))
    settings = {"architecture": f"R_50_{kind}"}
    config = SegmentationTraining(coco=(), start=str(tmp_path / "R-50.pkl"), network=settings)
    found, kept = start_network(config)
    assert kept == settings
    expected = network.backbone.bottom_up.state_dict()
    state = found.state_dict()
    homes = [
        name for name in state if ".conv" in name and name.endswith("weight") and ("res" in name or "stem" in name)
    ]
    assert len(homes) == 2 * 53 - 8  # 49 convolutions and their normalisations
    for name in homes:
        inner = name.removeprefix("backbone.").removeprefix("bottom_up.").removeprefix("roi_heads.")
        assert torch.equal(state[name], expected[inner]), name


def test_imagenet_weights_that_do_not_fit(network, tmp_path):
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(msra(network)))
    start = str(tmp_path / "R-50.pkl")
    with pytest.raises(UserError, match="another ResNet: missing"):
        start_network(SegmentationTraining(coco=(), start=start, network={"architecture": "R_101_FPN"}))
    with pytest.raises(UserError, match="is a ResNet: give"):
        start_network(SegmentationTraining(coco=(), start=start))
    with pytest.raises(UserError, match="No ImageNet weights of ResNet-50 come with Pusa"):
        start_network(SegmentationTraining(coco=(), network={"architecture": "R_50_FPN"}))


def test_predictors_of_other_classes_are_learnt_anew(network, tensors, tmp_path, capsys):
    coco = dict(tensors)
    score, change, mask = (f"roi_heads.{n}" for n in
                           ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_head.predictor"))  # fmt: skip
    for name, rows in ((score, 81), (change, 320), (mask, 80)):
        coco[f"{name}.weight"] = (
            tensors[f"{name}.weight"][:1].expand(rows, *tensors[f"{name}.weight"].shape[1:]).clone()
        )
        coco[f"{name}.bias"] = torch.zeros(rows)
    torch.save({"model": coco}, tmp_path / "coco.pth")
    found, settings = start_network(SegmentationTraining(coco=(), start=str(tmp_path / "coco.pth")))
    assert settings == {"architecture": "R_50_FPN", "classes": 1}
    state = found.state_dict()
    assert state[f"{score}.weight"].shape == (2, 1024)
    kept = [k for k in state if not k.startswith((score, change, mask))]
    assert all(torch.equal(state[k], network.state_dict()[k]) for k in kept)
    assert "has 80 classes" in capsys.readouterr().out


def test_classes_that_are_asked_for():
    """A network that finds every anchor to be of all three classes, with full masks."""
    network = build({"architecture": "R_50_FPN", "classes": 3}).eval()
    heads = network.roi_heads
    for layer in (network.rpn.head.anchor_deltas, heads.box_predictor.cls_score, heads.box_predictor.bbox_pred,
                  heads.mask_head.predictor):  # fmt: skip
        torch.nn.init.zeros_(layer.weight)
    heads.mask_head.predictor.bias.data.fill_(1.0)
    photo = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    counts = {}
    for classes in (None, (0,), (1, 2)):
        config = SegmentationConfig(device="cpu", shorter_side=64, longer_side=96, max_detections=5000, classes=classes)
        counts[classes] = len(Segmenter(config, network=network).segment([photo], 0.2)[0])
    assert counts[0,] > 0
    assert counts[1, 2] == 2 * counts[0,]
    assert counts[None] == 3 * counts[0,]


@pytest.mark.parametrize("name", SIX)
def test_all_parts_but_the_frozen_ones_learn(name):
    torch.manual_seed(0)
    network = build({"architecture": name}).train()
    for layer, module in network.named_modules():
        if layer.endswith("conv3"):
            module.norm.weight *= 0.25  # or residual sums of random layers grow until softmax has no gradient
    for stage in network.stages()[: network.frozen]:
        stage.requires_grad_(False)
    boxes = torch.tensor([[10.0, 10, 50, 40], [60, 20, 90, 60]])
    layers = torch.zeros(2, 64, 96, dtype=torch.uint8)
    layers[0, 10:40, 10:50] = layers[1, 20:60, 60:90] = 1
    targets = [{"boxes": boxes, "labels": torch.ones(2, dtype=torch.int64), "masks": layers},
               {"boxes": boxes[:0], "labels": torch.ones(0, dtype=torch.int64), "masks": layers[:0]}]  # fmt: skip
    losses = network(list(torch.rand(2, 3, 64, 96)), targets)
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask"}
    sum(losses.values()).backward()
    assert all(torch.isfinite(v) for v in losses.values())
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    frozen = [n for n, p in network.named_parameters() if not p.requires_grad]
    assert len(frozen) == 11  # the stem's convolution, 3 x 3 of res2 and its shortcut
    assert without == frozen
