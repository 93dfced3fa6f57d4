"""Pairs of key points on one place: by hand, and of a run of three photos that is made by hand; and a tiny training."""

import json

import cv2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pusa import photos, records, weights
from pusa.errors import UserError
from pusa.marks import places, train
from pusa.marks.describe import levels
from pusa.marks.network import MarkNetwork
from pusa.marks.places import MarkPairs, Shown, body_angle, same
from pusa.records import Run
from pusa.segmentation import masks

W, H = 320, 200


def shown(*marks: tuple[float, ...], where: list[tuple[float, float]], angle: float = 0) -> Shown:
    return Shown("s", np.zeros((9, 9), np.uint8), np.array(marks, float), np.array(where, float), angle)


def test_pairs_by_hand():
    """Marks are x, y, size, angle; only size, angle and where they lie on the body count."""
    first = shown((0, 0, 5, 10), (0, 0, 5, 0), (0, 0, 5, 0), (0, 0, 5, 0), where=[
        (0.50, 0.5),  # 0: has a partner
        (0.20, 0.5),  # 1: its partner is twice as large
        (0.80, 0.99),  # 2: its partner lies on the other side of theta = 0
        (0.30, 0.5),  # 3: its partner is turned by 40 degrees more than the body
    ])  # fmt: skip
    second = shown((0, 0, 6, 100), (0, 0, 10, 90), (0, 0, 5, 95), (0, 0, 5, 130), (0, 0, 5, 90), where=[
        (0.51, 0.5), (0.20, 0.5), (0.80, 0.0), (0.30, 0.5), (np.nan, np.nan),
    ], angle=90)  # fmt: skip
    i, j = same(first, second)
    assert (i.tolist(), j.tolist()) == ([0, 2], [0, 2])
    assert [len(k) for k in same(first, shown((0, 0, 5, 0), where=[(0.9, 0.2)]))] == [0, 0]


def test_angle_of_a_body():
    marks = np.array([[0, 0], [10, 0], [0, 10], [10, 10]])
    assert body_angle(marks, np.column_stack([0.1 * marks[:, 1], marks[:, 0]])) == pytest.approx(
        90
    )  # s grows downwards
    assert np.isnan(body_angle(marks[:2], np.zeros((2, 2))))


@pytest.fixture
def folder(tmp_path, marks):
    """run/ and archive/: Anna twice, the second time darker and a little smaller; Bert once."""
    surface = np.zeros((H // 2, W // 2, 3), np.uint8)
    surface[..., 0] = np.arange(W // 2) * 255 // (W // 2)
    surface[..., 1] = np.arange(H // 2)[:, None] * 128 // (H // 2)
    surface[..., 2] = 255
    (tmp_path / "archive" / "truth" / "surface").mkdir(parents=True)
    rows, annotations = [], []
    for k, (name, crop) in enumerate([("Anna", marks(0)), ("Anna", marks(0) // 2 + 30), ("Bert", marks(1))], 1):
        whole = masks.encode(np.ones((H, W), bool))
        instance = records.new_instance(
            f"p{k}#0", box=np.array([0, 0, W, H]), mask=whole, crop_box=(0, 0, W, H), score=1.0,
            crop=photos.encode_jpeg(crop, 92),
        )  # fmt: skip
        row = {f.name: None for f in records.PHOTOS}
        row |= {"photo_id": f"p{k}", "path": f"{k}.jpg", "sequence_id": str(k), "status": "ok", "instances": [instance]}
        rows.append(row)
        annotations.append(
            {"id": k, "image_id": k, "category_id": 1, "bbox": [0, 0, W, H], "area": W * H, "iscrowd": 0,
             "segmentation": {"size": [H, W], "counts": [0, H * W]}, "identity": name}
        )  # fmt: skip
        Image.fromarray(surface).save(tmp_path / "archive" / "truth" / "surface" / f"{k}.png")
    images = [{"id": k, "file_name": f"{k}.jpg", "width": W, "height": H} for k in (1, 2, 3)]
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "seal"}]}
    (tmp_path / "archive" / "truth" / "instances.json").write_text(json.dumps(coco))
    run = Run(str(tmp_path / "run"))
    run.write("photos", pa.Table.from_pylist(rows, records.PHOTOS), "00000")
    run.write_manifest({"archive": str(tmp_path / "archive" / "photos")})
    return tmp_path


def test_pairs_of_a_run(folder):
    """Of the two photos of Anna, which are alike but for their light, most key points are pairs, at the same place."""
    found = places.read(Run(str(folder / "run")), folder / "archive", MarkNetwork())
    assert len(found.pictures) == 3
    assert len(found) > 100
    assert set(found.pairs[:, 0, 0]) == {0}
    assert set(found.pairs[:, 1, 0]) == {1}
    assert np.median(np.linalg.norm(found.pairs[:, 0, 1:3] - found.pairs[:, 1, 1:3], axis=1)) < 1
    rng = np.random.default_rng(0)
    first, second = (found.member(0, turn, rng, 0) for turn in (0, 1))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9
    assert np.array_equal(first, found.member(0, 2, rng, 0))
    assert not np.array_equal(first, found.member(0, 2, rng, 1))  # moved a little


def test_nobody_comes_back(folder):
    file = folder / "archive" / "truth" / "instances.json"
    file.write_text(file.read_text().replace('"identity": "Anna"', '"identity": "Anna 1"', 1))
    with pytest.raises(UserError, match="no key point of an animal"):
        places.read(Run(str(folder / "run")), folder / "archive", MarkNetwork())


def test_training_begins_and_goes_on(folder):
    pair = (folder / "run", folder / "archive")
    out = folder / "marks.safetensors"
    tiny = {"seen": (pair,), "validation": (pair,), "validation_pairs": 50, "steps": 30, "epoch_steps": 15, "batch": 64,
            "workers": 0, "device": "cpu", "out": out,
            "network": {"width": 4, "span": 12.0, "upright": True}}  # fmt: skip
    reports: list[dict[str, float]] = []
    train.loop(train.MarkTraining(**tiny), lambda m, c: reports.append(m))
    assert reports[-1]["loss"] < reports[0]["loss"]
    assert reports[-1]["map"] > 0.5  # the pairs differ by their light alone
    assert weights.load(str(out), "marks").settings == {"network": tiny["network"]}
    train.loop(train.MarkTraining(**tiny | {"start": str(out), "out": folder / "b.safetensors"}), lambda m, c: None)
    with pytest.raises(UserError, match="nothing to learn from"):
        train.MarkTask(train.MarkTraining(**tiny | {"seen": ()}))


def test_member_takes_the_two_in_turns():
    pictures = [np.full((40, 40), 10, np.uint8), np.full((40, 40), 200, np.uint8)]
    mark = [20, 20, 5, 0]
    pairs = MarkPairs([levels(p) for p in pictures], np.array([[[0, *mark], [1, *mark]]], np.float32), 6.0)
    rng = np.random.default_rng(0)
    assert [int(pairs.member(0, turn, rng).mean()) for turn in range(3)] == [10, 200, 10]
    assert cv2.countNonZero(pairs.member(0, 0, rng) - 10) == 0
