"""The first stage: crops, given instances, and photos that cannot be used."""

import json

import numpy as np
import pyarrow as pa
import pytest

from pusa import photos, records
from pusa.segmentation import masks
from pusa.segmentation.detect import CropConfig, PhotoDetector, crop_box_of, stored_crop
from pusa.segmentation.segmenter import SegmentationConfig


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([2.3, 3.9, 10.1, 20.0], (2, 3, 11, 20)),  # rounded outwards
        ([-4, -0.5, 200, 90], (0, 0, 100, 80)),  # clipped to a photo of 100 x 80
        ([99.9, 79.9, 100, 80], (99, 79, 100, 80)),  # at least one pixel
        ([100, 80, 100, 80], (99, 79, 100, 80)),  # also at the far corner
    ],
)
def test_crop_box(box, expected):
    assert crop_box_of(np.array(box, np.float32), 100, 80) == expected


def test_stored_crop_is_shrunk_to_its_longer_side():
    rgb = np.zeros((50, 400, 3), np.uint8)
    assert photos.decode_jpeg(stored_crop(rgb, (0, 0, 400, 50), CropConfig(longer_side=100))).shape == (12, 100, 3)
    assert photos.decode_jpeg(stored_crop(rgb, (10, 5, 40, 25), CropConfig(longer_side=100))).shape == (20, 30, 3)


@pytest.fixture
def detect(tmp_path):
    """Runs the stage on photos of 60 x 40, with annotations in place of a network."""
    rgb = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)

    def run(*annotations, names=("a.png",), size=(60, 40)):
        for name in names:
            (tmp_path / name).write_bytes(_png(rgb))
        images = [{"id": n, "file_name": name, "width": size[0], "height": size[1]} for n, name in enumerate(names)]
        categories = [{"id": 1, "name": "seal"}]
        numbered = [{"id": n, "category_id": 1, "image_id": 0, **a} for n, a in enumerate(annotations)]
        file = tmp_path / "given.json"
        file.write_text(json.dumps({"images": images, "annotations": numbered, "categories": categories}))
        stage = PhotoDetector(str(tmp_path), SegmentationConfig(), given=str(file))
        rows = [{"photo_id": name, "path": name, "status": "new"} for name in (*names, "missing.png")]
        return stage(pa.Table.from_pylist(rows, records.PHOTOS)).to_pylist()

    return run


def _png(rgb):
    import cv2

    return cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()


def test_given_masks_and_boxes(detect):
    mask = np.zeros((40, 60), bool)
    mask[5:15, 10:30] = True
    photo, missing = detect(
        {"segmentation": masks.encode(mask), "bbox": [10, 5, 20, 10], "side": "left"}, {"bbox": [40.5, 20, 10, 10]}
    )
    assert (photo["status"], photo["error"]) == ("ok", None)
    first, second = photo["instances"]
    assert (first["instance_id"], first["side"], first["box"]) == ("a.png#0", "left", [10, 5, 30, 15])
    assert masks.decode(first["mask"]).tolist() == mask.tolist()
    assert second["crop_box"] == [40, 20, 51, 30]
    assert masks.area(second["mask"]) == 11 * 10  # without a mask, the box is it
    assert second["score"] is None
    assert (missing["status"], missing["instances"]) == ("error", [])
    assert "cannot be read" in missing["error"]


def test_a_mask_of_another_size_is_an_error_of_the_photo(detect):
    mask = masks.encode(np.ones((20, 30), bool))
    photo, _ = detect({"segmentation": mask, "bbox": [0, 0, 30, 20]}, size=(30, 20))
    assert photo["status"] == "error"
    assert "a mask of 30 x 20 pixels was given for this photo of 60 x 40" in photo["error"]


def test_equal_content_has_an_equal_digest(detect):
    first, second, missing = detect(names=("a.png", "b.png"))
    assert first["digest"] == second["digest"]
    assert missing["digest"] is None
