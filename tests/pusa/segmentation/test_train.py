import json

import cv2
import numpy as np
import pytest
import torch

from pusa import weights
from pusa.errors import UserError
from pusa.schedule import learning_rate_factor
from pusa.segmentation import masks
from pusa.segmentation.segmenter import SegmentationConfig, Segmenter
from pusa.segmentation.train import SegmentationTraining, loop, spread


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three photos with a bright ellipse each."""
    folder, rng = tmp_path_factory.mktemp("ellipses"), np.random.default_rng(0)
    images, annotations = [], []
    for i in range(3):
        mask = np.zeros((72, 96), np.uint8)
        cv2.ellipse(mask, (int(rng.integers(30, 66)), int(rng.integers(25, 47))), (22, 12), 0, 0, 360, 1, -1)
        cv2.imwrite(str(folder / f"{i}.png"), 60 + 120 * mask)
        images.append({"id": i, "file_name": f"{i}.png", "width": 96, "height": 72})
        annotations.append({"id": i + 1, "image_id": i, "segmentation": masks.encode(mask.astype(bool)), "iscrowd": 0})
    (folder / "coco.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return folder


def settings(archive, out, **changes):
    small = {
        "coco": ((archive / "coco.json", archive),),
        "out": out,
        "network": {"architecture": "lite", "channels": 16, "box_head": 16, "mask_layers": 1},
        "height": 32,
        "width": 48,
        "batch": 2,
        "steps": 2,
        "epoch_steps": 1,
        "workers": 0,
        "log_every": 0,
        "device": "cpu",
    }
    return SegmentationTraining(**small | changes)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0, 0.01),  # not 0: the first step would be lost
        (0.05, 0.5),
        (0.1, 1),
        (0.55, 0.5),  # half of the cosine
        (1, 0),
        (1.2, 0),  # past the end, as the last step of a run by minutes may be
    ],
)
def test_learning_rate(progress, expected):
    assert learning_rate_factor(progress, 0.1) == pytest.approx(expected)


def test_spread():
    assert spread(list("abcdefg"), 3) == ["a", "c", "e"]
    assert spread(list("ab"), 3) == ["a", "b"]


def test_a_resumed_run_equals_an_unbroken_one(archive, tmp_path):
    reports = []
    whole = loop(settings(archive, tmp_path / "whole.safetensors"), lambda m, c: reports.append((m, c)))
    assert [m["step"] for m, _ in reports] == [1, 2]
    assert all(np.isfinite(m["loss_mask"]) for m, _ in reports)

    class Killed(Exception):
        pass

    def kill(_, checkpoint):
        raise Killed

    with pytest.raises(Killed):
        loop(settings(archive, tmp_path / "broken.safetensors"), kill)
    resumed = []
    broken = loop(
        settings(archive, tmp_path / "broken.safetensors"),
        lambda m, _: resumed.append(m),
        resume=tmp_path / "broken.checkpoint",
    )
    assert [m["step"] for m in resumed] == [2]
    first, second = weights.load(str(whole), "segmentation"), weights.load(str(broken), "segmentation")
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name


def test_a_run_by_minutes_ends_in_time_with_weights_that_load(archive, tmp_path):
    validation = ((archive / "coco.json", archive),)
    config = settings(archive, tmp_path / "w.safetensors", steps=10_000, minutes=1e-6, validation=validation)
    reports = []
    out = loop(config, lambda m, _: reports.append(m))
    assert [m["step"] for m in reports] == [1]
    assert {"mask_f1", "box_f1", "mask_map"} <= set(reports[0])
    segmenter = Segmenter(SegmentationConfig(weights=str(out), device="cpu", shorter_side=64, longer_side=96))
    assert len(segmenter.segment([np.zeros((72, 96, 3), np.uint8)])) == 1


def test_the_first_blocks_and_all_statistics_keep_their_values(archive, tmp_path):
    from pusa.efficientnet_lite import imagenet_weights

    out = loop(settings(archive, tmp_path / "w.safetensors", steps=1), lambda *_: None)
    trained, before = weights.load(str(out), "segmentation").tensors, imagenet_weights()
    changed = {k for k, v in before.items() if not torch.equal(trained[f"backbone.body.{k}"], v.half().float())}
    assert changed
    assert not any("running" in k or "bn" in k or k.startswith("conv_stem") for k in changed)
    assert {int(k.split(".")[1]) for k in changed} <= set(range(5, 16))


def test_fine_tuning_starts_from_weights(archive, tmp_path):
    first = loop(settings(archive, tmp_path / "first.safetensors", steps=1), lambda *_: None)
    config = settings(archive, tmp_path / "second.safetensors", steps=1, start=str(first), learning_rate=0.0)
    second = loop(config, lambda *_: None)
    a, b = weights.load(str(first), "segmentation").tensors, weights.load(str(second), "segmentation").tensors
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_nothing_to_learn_from(archive, tmp_path):
    (tmp_path / "empty.json").write_text(json.dumps({"images": [], "annotations": []}))
    config = settings(archive, tmp_path / "w.safetensors", coco=((tmp_path / "empty.json", tmp_path),))
    with pytest.raises(UserError, match="no animal to learn from"):
        loop(config, lambda *_: None)
