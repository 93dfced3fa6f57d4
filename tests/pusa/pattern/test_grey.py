"""Patches of the grey crop: where they lie, what they show, and their way through the stages."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from pusa import photos, records
from pusa.embedding.embed import EmbeddingConfig, PatchEmbedder
from pusa.embedding.network import PatchNetwork
from pusa.pattern import grey
from pusa.pattern.extract import PatternConfig
from pusa.pattern.patches import PatchConfig
from pusa.segmentation import masks


def animal(width: int = 100, height: int = 100, columns: int = 100) -> dict:
    """An instance at (10, 20) of a photo of 200 x 200: a crop of noise, whose first `columns` are the animal."""
    pixels = np.random.default_rng(0).integers(80, 180, (height, width, 3), dtype=np.uint8)
    whole = np.zeros((200, 200), bool)
    whole[20 : 20 + height, 10 : 10 + columns] = True
    return records.new_instance(
        "p#0", crop_box=np.array([10, 20, 10 + width, 20 + height]), crop=photos.encode_jpeg(pixels),
        mask=masks.encode(whole),
    )  # fmt: skip


def test_patches_have_their_share_of_the_animal():
    found = grey.boxes(animal(), 0.64, PatchConfig(stride=16))
    # The animal is 100 px wide: patches of 64 px. Of 36 px that are left over, corners at 2, 18 and 34.
    assert found[:, 0].reshape(3, 3)[0].tolist() == [12, 28, 44]
    assert found[:, 1].reshape(3, 3)[:, 0].tolist() == [22, 38, 54]
    np.testing.assert_allclose(found[:, 2:] - found[:, :2], 64)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (100, [2, 18, 34]),  # all of the crop
        (50, [2, 18]),  # the patch from 34 to 98 has 16 of 64 columns inside
        (49, [2]),  # that from 18 has 31 of 64
    ],
)
def test_patches_lie_on_the_animal_by_half(columns, expected):
    found = grey.boxes(animal(columns=columns), 64 / np.sqrt(100 * columns), PatchConfig(stride=16))
    assert sorted({x - 10 for x in found[:, 0].tolist()}) == expected


def test_a_patch_is_the_grey_picture_and_black_outside_the_animal():
    instance = animal(columns=60)
    instance["patch_boxes"] = grey.boxes(instance, 64 / np.sqrt(6000), PatchConfig(stride=16)).tolist()
    found = grey.cut(instance)
    assert found.dtype == np.float32
    whole = grey.picture(instance, (100, 100))
    np.testing.assert_array_equal(found[0], whole[2:66, 2:66].astype(np.float32) / 255)
    assert not found[0][:, 58:].any()  # columns 60 to 65 of the crop
    assert found[0][:, :58].std() > 0.1


def test_no_patch():
    assert grey.cut(animal() | {"patch_boxes": []}).shape == (0, 64, 64)


def test_through_the_stages():
    small = records.new_instance("p#1", crop_box=np.array([0, 0, 40, 40]), crop=animal()["crop"])
    row = {f.name: None for f in records.PHOTOS} | {"photo_id": "p", "instances": [animal(), small]}
    stage = grey.GreyPatches(PatternConfig(grey_side=0.64))
    torch.manual_seed(0)
    embed = PatchEmbedder(EmbeddingConfig(device="cpu"), network=PatchNetwork(width=8))
    ((first, second),) = records.instances(embed(stage(pa.Table.from_pylist([row], records.PHOTOS))))
    assert (first["usable"], first["pattern"], first["unusable_reason"]) == (True, None, None)
    expected = embed.embed(grey.cut(first))
    np.testing.assert_allclose(first["embeddings"].reshape(-1, 512), expected, atol=1e-3)
    assert (second["usable"], second["unusable_reason"], second["embeddings"]) == (False, "too small", None)
