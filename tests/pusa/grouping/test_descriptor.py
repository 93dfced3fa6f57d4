"""Pooling by hand; descriptors of whole crops: length, invariances, background."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from pusa import photos as photo_files
from pusa import records
from pusa.errors import UserError
from pusa.grouping.descriptor import Describer, DescriptorConfig, resized
from pusa.grouping.retrieval import gem, l2_normalise, mac
from pusa.grouping.whitening import Whitening
from pusa.segmentation import masks


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (1, 2.5),  # the mean of 1, 2, 3, 4
        (2, math.sqrt(30 / 4)),
        (3, (100 / 4) ** (1 / 3)),  # 1 + 8 + 27 + 64 = 100
    ],
)
def test_gem_by_hand(p, expected):
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert gem(x, p).item() == pytest.approx(expected, rel=1e-6)
    assert mac(x).item() == 4


def test_gem_clamps_negative_values_and_tends_to_mac():
    x = torch.tensor([[[[-5.0, 2.0]]]])
    assert gem(x, 3).item() == pytest.approx((8 / 2) ** (1 / 3), rel=1e-6)
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(gem(x, 500), mac(x), rtol=1e-2, atol=0)


def test_normalisation_keeps_a_zero_vector():
    x = l2_normalise(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(x, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((100, 400, 3), (64, 256)), ((400, 100, 3), (256, 64)), ((2, 2000, 3), (32, 256)), ((50, 50, 3), (256, 256))],
)
def test_longer_side(shape, expected):
    assert resized(np.zeros(shape, np.uint8), 256).shape[:2] == expected


@pytest.fixture(scope="module")
def describer() -> Describer:
    return Describer(DescriptorConfig(device="cpu", whitening=None), threads=1)


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return (
        np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    )


def test_fills_the_descriptor_of_every_instance_with_a_crop(describer):
    crops = [noise(0, 96, 160), noise(1, 160, 96)]
    nested = [
        [records.new_instance("a#0", crop=photo_files.encode_jpeg(crops[0]))],
        [],
        [records.new_instance("c#0", crop=photo_files.encode_jpeg(crops[1])), records.new_instance("c#1")],
    ]
    photos = pa.table({f.name: pa.nulls(3, f.type) for f in records.PHOTOS}, schema=records.PHOTOS)
    (a,), b, (c, without) = records.instances(describer(records.with_instances(photos, nested)))
    assert b == []
    assert without["descriptor"] is None
    for found, crop in ((a, crops[0]), (c, crops[1])):
        assert found["descriptor"].dtype == np.float16
        assert np.linalg.norm(found["descriptor"].astype(float)) == pytest.approx(1, abs=2e-3)
        decoded = photo_files.decode_jpeg(photo_files.encode_jpeg(crop))
        np.testing.assert_allclose(found["descriptor"], describer.describe(decoded), atol=1e-3)


def test_background_counts(describer):
    crop = noise(2, 128, 128)
    other = crop.copy()
    other[:, :64] = 30
    assert describer.describe(crop) @ describer.describe(other) < 0.99


def test_scales_and_mac_change_the_descriptor(describer):
    crop = noise(3, 128, 192)
    one = describer.describe(crop)
    for settings in ({"scales": (1.0, 0.5)}, {"pooling": "mac"}, {"p": math.inf}):
        other = Describer(DescriptorConfig(device="cpu", whitening=None, **settings), threads=1).describe(crop)
        assert other.shape == one.shape
        assert np.linalg.norm(other) == pytest.approx(1, abs=1e-4)
        assert 0.1 < one @ other < 0.9999


@pytest.mark.parametrize("shape", [(4, 300), (300, 4), (1, 1)])  # slivers at the edge of a photo; a single pixel
def test_slivers_have_a_descriptor(shape):
    vector = Describer(DescriptorConfig(device="cpu")).describe(np.full((*shape, 3), 128, np.uint8))
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)


def test_whitening_is_the_starters_unless_told_otherwise(describer):
    whitened = Describer(DescriptorConfig(device="cpu"), threads=1)
    crop = noise(4, 96, 128)
    expected = Whitening.load("starter/whitening")(describer.describe(crop)[None])[0]
    np.testing.assert_allclose(whitened.describe(crop), expected, atol=1e-5)
    assert len(expected) == 128


def test_a_whitening_of_another_network_is_refused_before_the_run(tmp_path):
    Whitening(np.zeros(5), np.eye(5)).save(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="descriptors of 5 numbers, these have 1280"):
        Describer(DescriptorConfig(device="cpu", whitening=str(tmp_path / "w.safetensors")))


def test_without_background(describer):
    """What lies outside the mask does not count any more."""
    crop = noise(5, 96, 128)
    other = crop.copy()
    other[:, :64] = 30
    mask = np.zeros((200, 200), bool)
    mask[20:116, 64 + 10 : 128 + 10] = True
    instances = [
        records.new_instance(
            "a", crop=photo_files.encode_jpeg(c, 100), crop_box=[10, 20, 138, 116], mask=masks.encode(mask)
        )
        for c in (crop, other)
    ]
    plain = [describer.vector(i) for i in instances]
    inside = Describer(DescriptorConfig(device="cpu", whitening=None, background=False), threads=1)
    bare = [inside.vector(i) for i in instances]
    assert bare[0] @ bare[1] > 0.999 > 0.99 > plain[0] @ plain[1]
