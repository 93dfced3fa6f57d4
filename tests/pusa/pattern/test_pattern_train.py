import json

import numpy as np
import pytest
import torch

from pusa import photos, weights
from pusa.errors import UserError
from pusa.pattern import data, evaluate, train, unet
from pusa.segmentation import masks


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two photos with a seal each in the layout of `pusa synth`: white rings on grey."""
    root = tmp_path_factory.mktemp("archive")
    (root / "truth" / "rings").mkdir(parents=True)
    (root / "photos").mkdir()
    images, annotations = [], []
    ys, xs = np.mgrid[:80, :120]
    rings = np.hypot(ys % 40 - 20, xs % 40 - 20)
    rings = (rings > 10) & (rings < 14)
    for i in (1, 2):
        photo = np.full((240, 320, 3), 90, np.uint8)
        photo[60:140, 100:220][rings] = 200
        (root / "photos" / f"{i}.jpg").write_bytes(photos.encode_jpeg(photo))
        mask = np.zeros((240, 320), bool)
        mask[60:140, 100:220] = True
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 320, "height": 240})
        box = [100.0, 60.0, 120.0, 80.0]
        annotations.append({"id": 10 + i, "image_id": i, "bbox": box, "segmentation": masks.encode(mask)})
        (root / "truth" / "rings" / f"{10 + i}.png").write_bytes(photos.encode_mask_png(rings))
    (root / "truth" / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return root


def settings(archive, out, **other):
    return train.PatternTraining(
        archives=[archive], validation=[archive], validation_crops=2, out=out, base=2, steps=4, epoch_steps=2, batch=2,
        window=64, workers=0, device="cpu", extraction={"input_size": 128, "clahe": 0}, **other,
    )  # fmt: skip


def test_examples_show_rings_where_the_photo_is_light(archive):
    examples = data.read_archive(archive, 120, blank=0, limit=10, seed=0)
    assert [e.layers.shape for e in examples] == [(80, 120, 3)] * 2
    grey, mask, rings = np.moveaxis(examples[0].layers, 2, 0)
    assert (mask == 255).all()
    assert grey[rings == 255].mean() > 180
    assert grey[rings == 0].mean() < 110


def test_blank_examples_have_no_rings(archive):
    examples = data.read_archive(archive, 120, blank=1, limit=10, seed=0)
    assert len(examples) == 4
    blank = examples[1].layers
    assert blank[..., 0].max() < 110  # ground, though the photo has a seal
    assert (blank[..., 1] == 255).all()
    assert not blank[..., 2].any()


def test_augmented_rings_lie_on_light_lines(archive):
    example = data.read_archive(archive, 120, blank=0, limit=1, seed=0)[0]
    views = [data.augment(example, 64, 0, np.random.default_rng(i)) for i in range(20)]
    differences = [
        grey[rings > 0.5].mean() - grey[(rings == 0) & (grey > 0)].mean() for grey, rings in views if rings.sum() > 50
    ]
    assert len(differences) > 10
    assert min(differences) > 5


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        # Columns of a line of 1 px: moved by 2 px is right, by 3 px wrong.
        # Centrelines must lie inside the other line: moved by 2 px, two lines of 1 px share nothing.
        ([10], [10], {"iou": 1.0, "precision": 1.0, "recall": 1.0, "f1": 1.0, "cldice": 1.0}),
        ([12], [10], {"iou": 0.0, "precision": 1.0, "recall": 1.0, "f1": 1.0, "cldice": 0.0}),
        ([13], [10], {"iou": 0.0, "precision": 0.0, "recall": 0.0, "f1": 0.0, "cldice": 0.0}),
        ([10, 20], [10], {"iou": 0.5, "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "cldice": 2 / 3}),
        ([9, 10, 11], [10], {"iou": 1 / 3, "precision": 1.0, "recall": 1.0, "f1": 1.0, "cldice": 1.0}),
        ([], [10], {"iou": 0.0, "precision": 0.0, "recall": 0.0, "f1": 0.0, "cldice": 0.0}),
        ([10], [], {"iou": 0.0, "precision": 0.0, "recall": 0.0, "f1": 0.0, "cldice": 0.0}),
    ],
)
def test_scores(found, truth, expected):
    masks_ = []
    for columns in (found, truth):
        mask = np.zeros((30, 30), bool)
        mask[:, columns] = True
        masks_.append(mask)
    assert evaluate.scores(evaluate.line_counts(*masks_)) == pytest.approx(expected)


def test_loss_by_hand():
    logits = torch.zeros(1, 1, 1, 4)  # probability 1/2 everywhere
    rings = torch.tensor([1.0, 0, 0, 0]).view(1, 1, 1, 4)
    dice = (2 * 0.5 + 1) / (2 + 1 + 1)
    assert train.loss_of(logits, rings).item() == pytest.approx(np.log(2) + 1 - dice)


def test_a_new_network_can_learn():
    """With two channels before the output it is easy to begin with both dead: then the loss stays where it is."""
    torch.manual_seed(0)
    x = torch.zeros(2, 1, 32, 32)
    x[:, :, 10:14] = 1
    network = unet.UNet(4)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = train.loss_of(network(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def test_loop_reports_saves_and_resumes(archive, tmp_path):
    reports = []
    whole = train.loop(settings(archive, tmp_path / "whole.safetensors"), lambda m, c: reports.append(m))
    assert [m["step"] for m in reports] == [2, 4]
    assert all(np.isfinite(m["loss"]) and 0 <= m["f1"] <= 1 for m in reports)

    def stop(measured, checkpoint):
        raise KeyboardInterrupt

    broken = settings(archive, tmp_path / "broken.safetensors")
    with pytest.raises(KeyboardInterrupt):
        train.loop(broken, stop)
    resumed = train.loop(broken, lambda m, c: None, resume=tmp_path / "broken.checkpoint")
    first, second = (weights.load(str(p), "pattern") for p in (whole, resumed))
    assert first.settings == {"network": {"base": 2}}
    assert all(torch.equal(first.tensors[k], second.tensors[k]) for k in first.tensors)


def test_unusable_data_is_named(archive, tmp_path):
    with pytest.raises(UserError, match="no truth"):
        data.read_archive(tmp_path, 128, 0, 10, 0)
    with pytest.raises(UserError, match="no archive"):
        train.loop(train.PatternTraining(archives=[], out=tmp_path / "x.safetensors"), lambda m, c: None)
