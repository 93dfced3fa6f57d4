import json
import re

import cv2
import numpy as np
import pytest

from pusa.errors import UserError
from pusa.segmentation import masks
from pusa.segmentation.data import TrainingPhotos, augment, read_coco


def annotation(number, image_id=3, segmentation=((5, 5, 25, 5, 25, 20, 5, 20),), **changes):
    """A rectangle of photo a, unless it is said otherwise."""
    rle = segmentation if isinstance(segmentation, dict) else [list(polygon) for polygon in segmentation]
    return {"id": number, "image_id": image_id, "category_id": 5, "segmentation": rle, "iscrowd": 0} | changes


def coco(annotations=(annotation(1), annotation(3, segmentation=((0, 0, 40, 0, 40, 30),), iscrowd=1)), **changes):
    """A COCO file of two photos of 40 x 30; a has an animal and a crowd region, b is without animals."""
    images = [
        {"id": 7, "file_name": "b.png", "width": 40, "height": 30},
        {"id": 3, "file_name": "a.png", "width": 40, "height": 30},
    ]
    return {"images": images, "annotations": list(annotations)} | changes


@pytest.fixture
def archive(tmp_path):
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((30, 40, 3), 100, np.uint8))
    (tmp_path / "coco.json").write_text(json.dumps(coco()))
    return tmp_path


def test_read_coco_joins_by_image_id(archive):
    labelled, left_out = read_coco(archive / "coco.json", archive)
    assert [p.path.name for p in labelled] == ["a.png", "b.png"]
    assert [len(p.masks) for p in labelled] == [1, 0]  # crowd regions are left out, photos without animals are not
    truth = labelled[0].truth()
    assert truth.boxes.tolist() == [[5, 5, 25, 20]]
    assert labelled[1].truth().boxes.shape == (0, 4)
    assert labelled[0].read().shape == (30, 40, 3)
    assert left_out == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not JSON", "not a COCO file"),
        ("[]", "not a COCO file"),
        (json.dumps({"images": []}), "not a COCO file"),  # no annotations
    ],
)
def test_what_is_no_coco_file(archive, content, message):
    (archive / "coco.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_coco(archive / "coco.json", archive)


A = {"id": 3, "file_name": "a.png", "width": 40, "height": 30}


@pytest.mark.parametrize(
    ("content", "photos", "message"),
    [
        (coco([annotation(9, image_id=4)]), "ab", "annotation 9 is of image 4, which is not in the file"),
        (coco([annotation(1), annotation(1)]), "ab", "annotation 1 is there twice"),
        (
            coco([annotation(9, segmentation=((1, 2),))]),
            "b",
            "annotation 9: expected .* so all of a.png",
        ),
        (coco([annotation(9, segmentation=())]), "b", "annotation 9"),  # an animal without a mask is not ground
        (coco([annotation(9, segmentation={"size": [30, 40], "counts": [1200]})]), "b", "annotation 9: .* empty"),
        (coco([annotation(9, segmentation={"size": [40, 30], "counts": [0, 1200]})]), "b", "annotation 9"),  # turned
        (coco([annotation(9, segmentation=((100, 0, 120, 0, 120, 9),))]), "b", "annotation 9: .* far outside"),
        (coco(images=[A | {"file_name": "c.png"}]), "", r"image 3 \(c.png\) cannot be opened"),  # listed, but missing
        (coco(images=[A, A | {"file_name": "b.png"}]), "a", r"image 3 \(b.png\) has the id of a.png"),
        (coco(images=[A | {"width": 30, "height": 40}]), "", "has 40 x 30 pixels when upright, the file says 30 x 40"),
        (coco(images=[A, {"id": 8}]), "a", "an image without id or file_name"),
        (coco(images=[A, "a.png"]), "a", "an image without id or file_name"),
        (coco(["mask"]), "ab", "annotation  is of image , which"),
    ],
)
def test_what_is_bad_is_left_out_and_told(archive, content, photos, message):
    (archive / "coco.json").write_text(json.dumps(content))
    labelled, left_out = read_coco(archive / "coco.json", archive)
    assert "".join(p.path.stem for p in labelled) == photos
    assert re.search(message, "\n".join(left_out)), left_out


def test_a_photo_whose_pixels_are_damaged_gives_its_place_to_the_next(archive, capsys):
    labelled, _ = read_coco(archive / "coco.json", archive)
    content = labelled[0].path.read_bytes()
    labelled[0].path.write_bytes(content[:60])
    dataset = TrainingPhotos(labelled, 32, 48, 0)
    for p in range(4):
        assert dataset[p][0].shape[0] == 3
    assert "left out: Cannot read the photo" in capsys.readouterr().out
    labelled[1].path.unlink()
    with pytest.raises(UserError, match="None of the photos"):
        dataset[0]


def test_photo_missing_or_of_another_size(archive):
    (first, second), _ = read_coco(archive / "coco.json", archive)
    second.path.unlink()
    with pytest.raises(UserError, match=r"Cannot read the photo .*b\.png"):
        second.read()
    cv2.imwrite(str(first.path), np.zeros((40, 30, 3), np.uint8))
    with pytest.raises(UserError, match="masks have"):
        first.read()


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="Cannot read the COCO file"):
        read_coco(tmp_path / "none.json", tmp_path)


def test_augmentation_keeps_photo_and_mask_together():
    """A bright animal on a dark ground: after any augmentation the mask lies on what is bright."""
    mask = np.zeros((120, 160), bool)
    mask[40:90, 30:120] = True
    rgb = np.where(mask[..., None], 200, 60).astype(np.uint8).repeat(3, axis=2)
    seen = 0
    for seed in range(20):
        out, layers = augment(rgb, [mask], 96, 128, np.random.default_rng(seed))
        assert out.dtype == np.uint8
        assert out.shape[0] <= 96
        assert out.shape[1] <= 128
        for layer in layers:
            assert layer.shape == out.shape[:2]
            if 0 < layer.mean() < 1:
                assert out[layer].mean() > out[~layer].mean() + 10
                seen += 1
    assert seen >= 10


def test_animals_cut_off_are_dropped():
    mask = np.zeros((120, 160), bool)
    mask[0:2, 0:2] = True  # under 64 pixels at every scale
    assert all(
        not augment(np.zeros((120, 160, 3), np.uint8), [mask], 96, 128, np.random.default_rng(s))[1] for s in range(5)
    )


def test_items_follow_from_the_seed(archive):
    labelled, _ = read_coco(archive / "coco.json", archive)
    first, again, other = (TrainingPhotos(labelled, 32, 48, seed) for seed in (1, 1, 2))
    for p in range(6):
        np.testing.assert_array_equal(first[p][0], again[p][0])
    assert any(first[p][0].shape != other[p][0].shape or (first[p][0] != other[p][0]).any() for p in range(6))
    with_animal = sum(len(first[p][1]["boxes"]) for p in range(4)) / 2
    assert with_animal <= 1  # every pass shows each photo once


def test_target_of_an_item(archive):
    labelled, _ = read_coco(archive / "coco.json", archive)
    items = [TrainingPhotos(labelled, 32, 48, 0)[p] for p in range(8)]
    for image, target in items:
        assert image.shape[0] == 3
        assert 0 <= image.min() <= image.max() <= 1
        assert target["masks"].shape[1:] == image.shape[1:]
        for box, layer in zip(target["boxes"], target["masks"], strict=True):
            np.testing.assert_array_equal(box, masks.box(masks.encode(layer.numpy().astype(bool))))
    assert any(len(target["boxes"]) for _, target in items)
