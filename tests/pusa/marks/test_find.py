"""Key points as a run keeps them: the same as those found anew in its crops, and taken only where they fit."""

import cv2
import numpy as np
import pyarrow as pa
import pytest

from pusa import photos as photo_files
from pusa import records, weights
from pusa.fisher.codebook import Codebook
from pusa.gallery import crops, geometry
from pusa.gallery.geometry import GeometryConfig, as_found
from pusa.gallery.verify import VerifyConfig
from pusa.keypoints import KeypointConfig
from pusa.marks.find import KeypointFinder
from pusa.records import PHOTOS, Run
from pusa.segmentation import masks

STARTER = weights.digest(weights.find("starter/rings"))


def animal(seed: int = 0) -> dict:
    """An instance of 400 x 250 px in a photo of 600 x 400, blotched all over; its mask is an ellipse."""
    noise = np.random.default_rng(seed).integers(0, 256, (250, 400)).astype(np.uint8)
    blotches = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)
    inside = cv2.ellipse(np.zeros((400, 600), np.uint8), (260, 185), (190, 110), 20, 0, 360, 1, -1)
    return records.new_instance(
        f"p#{seed}",
        crop=photo_files.encode_jpeg(np.dstack([blotches] * 3), 92),
        crop_box=np.array([60, 60, 460, 310], np.int32),
        mask=masks.encode(inside),
    )


def table(*instances: dict) -> pa.Table:
    row = {"photo_id": "p", "sequence_id": "s", "status": "ok", "instances": [*instances]}
    return pa.Table.from_pylist([row], schema=PHOTOS)


@pytest.mark.parametrize("marks", ["starter/rings", "starter/marks", None])  # None: RootSIFT, numbers up to 255
def test_what_is_kept_is_what_would_be_found(tmp_path, marks):
    config = KeypointConfig(marks=marks)
    run = Run(str(tmp_path))
    nothing = records.new_instance("p#9")  # without a crop
    run.write("photos", KeypointFinder(config)(table(animal(0), animal(1), nothing)), "a")
    digests = {"marks": weights.digest(weights.find(marks))} if marks else {}
    run.write_manifest({"config": {"keypoints": config.model_dump()}, "weights": digests})
    asked = VerifyConfig(geometry=GeometryConfig(marks=marks))
    kept = crops.features(run, {"p#0", "p#1"}, asked, Codebook.load("starter/codebook"))
    for seed in range(2):
        expected, found = geometry.features(animal(seed), asked.geometry), kept[f"p#{seed}"]
        assert len(expected.marks.at) > 100
        np.testing.assert_array_equal(found.marks.at, expected.marks.at)
        np.testing.assert_array_equal(found.marks.descriptors, expected.marks.descriptors)
        assert found.marks.descriptors.dtype == expected.marks.descriptors.dtype
        assert (found.side, found.corner, found.picture) == (expected.side, expected.corner, expected.picture)
    (row,) = records.instances(run.read("photos"))
    assert [row[2][name] for name in ("keypoints", "marks", "picture")] == [None, None, None]


def test_an_animal_without_key_points(tmp_path):
    blank = animal() | {"crop": photo_files.encode_jpeg(np.full((250, 400, 3), 120, np.uint8), 92)}
    (row,) = records.instances(KeypointFinder(KeypointConfig())(table(blank)))
    found = geometry.stored(row[0], GeometryConfig())
    assert (found.marks.at.shape, found.marks.descriptors.shape) == ((0, 2), (0, 128))
    assert photo_files.decode_jpeg(found.picture).shape == (200, 320, 3)


def manifest(digest: str | None = STARTER, **settings) -> dict:
    return {"config": {"keypoints": KeypointConfig(**settings).model_dump()}, "weights": {"marks": digest}}


@pytest.mark.parametrize(
    ("run", "asked", "taken"),
    [
        (manifest(), {}, True),
        (manifest(), {"tolerance": 0.1}, True),  # of maps, not of key points
        (manifest(marks="/elsewhere/rings.safetensors"), {}, True),  # the same file by another name
        (manifest("x"), {}, False),  # other weights by the same name
        (manifest(), {"marks": "starter/marks"}, False),
        (manifest(), {"marks": None}, False),
        (manifest(None, marks=None), {"marks": None}, True),
        (manifest(None, marks=None), {}, False),
        (manifest(contrast=0.01), {}, False),
        ({"config": {}, "weights": {}}, {}, False),  # of an older version: found anew
    ],
)
def test_when_kept_key_points_are_taken(run, asked, taken):
    assert as_found(run, GeometryConfig(**asked)) == taken


def test_of_a_run_without_key_points_they_are_found_anew(tmp_path):
    run = Run(str(tmp_path))
    run.write("photos", table(animal()), "a")
    run.write_manifest({"config": {}, "weights": {}})
    found = crops.features(run, {"p#0"}, VerifyConfig(), Codebook.load("starter/codebook"))["p#0"]
    np.testing.assert_array_equal(found.marks.at, geometry.features(animal(), GeometryConfig()).marks.at)


def test_a_run_is_measured_by_its_own_key_points():
    own = VerifyConfig.of_run(manifest(marks="starter/marks", contrast=0.01))
    assert (own.geometry.marks, own.geometry.contrast) == ("starter/marks", 0.01)
    assert own.geometry.tolerance == GeometryConfig().tolerance
    assert VerifyConfig.of_run({"config": {}}) == VerifyConfig()
