"""Training of the network that tells the side, on drawn arrows: their points are on the left or on the right."""

import json

import cv2
import numpy as np
import pyarrow as pa
import pytest

from pusa import photos as photo_files
from pusa import records, weights
from pusa.errors import UserError
from pusa.records import PHOTOS, Run
from pusa.segmentation.detect import PhotoDetector
from pusa.segmentation.segmenter import SegmentationConfig
from pusa.sides import train
from pusa.sides.evaluate import agreement
from pusa.sides.find import SideConfig, SideFinder
from pusa.sides.network import KINDS, picture


@pytest.fixture(scope="module")
def arrows(tmp_path_factory):
    """Forty photos of an arrow each, and a COCO file: folder."""
    folder = tmp_path_factory.mktemp("arrows")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for k in range(40):
        side = ("left", "right")[k % 2]
        x, y, length = (int(v) for v in rng.integers((40, 40, 60), (90, 90, 100)))
        shape = np.array([[0, 10], [30, -12], [30, 0], [length, 0], [length, 20], [30, 20], [30, 32]])
        if side == "right":
            shape[:, 0] = length - shape[:, 0]
        shape += (x, y)
        grey = rng.integers(60, 120, (200, 260)).astype(np.uint8)
        cv2.fillPoly(grey, [shape], int(rng.integers(140, 220)))
        (folder / f"{k}.jpg").write_bytes(photo_files.encode_jpeg(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), 92))
        images.append({"id": k, "file_name": f"{k}.jpg", "width": 260, "height": 200})
        x0, y0, w, h = cv2.boundingRect(shape)
        outline = [shape.ravel().tolist()]
        annotations.append({"id": k, "image_id": k, "category_id": 1, "bbox": [x0, y0, w, h], "iscrowd": 0,
                            "area": w * h, "segmentation": outline, "side": side})  # fmt: skip
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "arrow"}]}
    (folder / "arrows.json").write_text(json.dumps(coco))
    return folder


@pytest.fixture(scope="module")
def run(arrows, tmp_path_factory):
    """A run that has found them."""
    folder = tmp_path_factory.mktemp("run")
    made = Run(str(folder))
    finder = PhotoDetector(str(arrows), SegmentationConfig(), given=str(arrows / "arrows.json"))
    rows = [{"photo_id": f"{k}", "path": f"{k}.jpg", "status": "new", "instances": []} for k in range(40)]
    photos = finder(pa.Table.from_pylist(rows, schema=PHOTOS))
    nested = records.instances(photos)
    for instance in (i for row in nested for i in row):
        instance["side"] = "unknown"
    made.write("photos", records.with_instances(photos, nested), "0")
    made.write_manifest({"state": "finished", "archive": str(arrows)})
    return folder


def test_it_learns_which_way_arrows_point(arrows, run, tmp_path):
    pair = (arrows / "arrows.json", arrows)
    config = train.SideTraining(coco=(pair,), validation=((run, pair[0]),), out=tmp_path / "s.safetensors", width=4,
                                steps=40, epoch_steps=20, batch=16, workers=0, log_every=0)  # fmt: skip
    reported = []
    train.loop(config, lambda metrics, checkpoint: reported.append(metrics))
    assert reported[-1]["flank"] > 0.95
    assert reported[-1]["swapped"] < 0.05
    finder = SideFinder(SideConfig(weights=str(config.out)))
    examples = train.read(*pair)
    told = finder.probabilities([picture(grey, inside) for grey, inside, _ in examples])
    np.testing.assert_allclose(told.sum(axis=1), 1, atol=1e-4)
    assert agreement(told, np.array([kind for *_, kind in train.numbered(examples)]))["flank"] > 0.95
    assert weights.load(str(config.out), "sides").settings == {"network": {"width": 4}}


def test_examples_are_cut_out_with_their_masks(arrows):
    examples = train.read(arrows / "arrows.json", arrows)
    assert len(examples) == 40
    for grey, inside, side in examples:
        assert grey.shape == inside.shape
        assert max(grey.shape) <= train.KEPT
        assert side in ("left", "right")
        assert grey[inside].mean() > grey[~inside].mean()  # arrows are lighter than what is around them


def test_animals_as_a_run_found_them(arrows, run):
    """The same as those of the file, whose masks they have."""
    theirs, mine = train.read(arrows / "arrows.json", arrows), train.read_found(run, arrows / "arrows.json")
    assert [side for *_, side in mine] == [side for *_, side in theirs]
    for (grey, inside, _), (other, mask, _) in zip(mine, theirs, strict=True):
        assert (inside == mask).all()
        assert np.abs(grey.astype(int) - other).mean() < 6  # stored as JPEG


def test_views_are_of_the_same_side_and_follow_from_their_number(arrows):
    views = train.Views(train.numbered(train.read(arrows / "arrows.json", arrows)), seed=3)
    (first, kind), (again, same) = views[7], views[7]
    assert first.shape == (2, 64, 128)
    assert (first == again).all()
    assert kind == same
    assert not (views[8][0] == first).all()
    right = 0  # an arrow's head is the heavier half
    for k in range(100):
        seen, kind = views[k]
        xs = np.nonzero(seen[1].numpy() > 127)[1]
        heavy = np.median(xs) > (xs.min() + xs.max()) / 2
        right += heavy == (KINDS[kind] == "right")
    assert right > 80  # views are not mirrored; some heads are hidden


def test_what_is_seen_from_above_is_not_learnt():
    grey, inside = np.zeros((20, 30), np.uint8), np.ones((20, 30), bool)
    assert [kind for *_, kind in train.numbered([(grey, inside, s) for s in ("up", "right", "down", "left")])] == [1, 0]


def test_rare_sides_are_drawn_more_often_than_they_are():
    blank = (np.zeros((20, 30), np.uint8), np.ones((20, 30), bool))
    views = train.Views([(*blank, 0)] * 96 + [(*blank, 2)] * 4, seed=0)
    drawn = np.bincount([views[k][1] for k in range(600)], minlength=3)
    assert 0.11 < drawn[2] / 600 < 0.23  # sqrt(4) of sqrt(96) + sqrt(4): a sixth


def test_nothing_to_learn_from(arrows, tmp_path):
    with pytest.raises(UserError, match="nothing to learn from"):
        train.loop(train.SideTraining(out=tmp_path / "s.safetensors"), lambda *_: None)
    coco = json.loads((arrows / "arrows.json").read_text())
    for annotation in coco["annotations"]:
        del annotation["side"]
    (tmp_path / "none.json").write_text(json.dumps(coco))
    with pytest.raises(UserError, match="expected animals with a `side`"):
        train.read(tmp_path / "none.json", arrows)
    with pytest.raises(UserError, match="which is not in"):
        train.read(arrows / "arrows.json", tmp_path)
