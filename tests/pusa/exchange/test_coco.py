"""COCO files: masks by hand, joins by id, and all that is wrong in real files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as pycoco

from pusa.errors import UserError
from pusa.exchange import coco, segmentations
from pusa.segmentation import masks

# 4 x 3 (height x width), an L: the first column and the last row. Column-major: no background, 4 of column 0, then
# three rows of background and one of the L, twice.
L_SHAPE = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1]], bool)
L_RUNS = [0, 4, 3, 1, 3, 1]


def content(*annotations, **image):
    return {
        "images": [{"id": 7, "file_name": "a/1.jpg", "width": 3, "height": 4} | image, {"id": 9, "file_name": "2.jpg"}],
        "categories": [{"id": 3, "name": "seal"}, {"id": 5, "name": "Person"}],
        "annotations": [{"id": i, "image_id": 7, "category_id": 3} | a for i, a in enumerate(annotations)],
    }


def only(*annotations, **image):
    (found,) = coco.read(content(*annotations, **image), "f.json")["a/1.jpg"]
    return found


@pytest.mark.parametrize("segmentation", [
    {"size": [4, 3], "counts": L_RUNS},
    {"size": [4, 3], "counts": pycoco.encode(np.asfortranarray(L_SHAPE.astype(np.uint8)))["counts"].decode()},
    [[0, 0, 1, 0, 1, 3, 3, 3, 3, 4, 0, 4]],  # its outline
    [[0, 0, 1, 0, 1, 4, 0, 4], [1, 3, 3, 3, 3, 4, 1, 4]],  # two parts, one animal
])  # fmt: skip
def test_masks_in_all_forms(segmentation):
    found = only({"segmentation": segmentation})
    np.testing.assert_array_equal(masks.decode(found.mask), L_SHAPE)
    assert found.mask["size"] == [4, 3]
    assert isinstance(found.mask["counts"], str)
    assert found.box == (0, 0, 3, 4)  # of the mask, where there is no bbox


def test_the_box_of_the_file_comes_first():
    found = only({"segmentation": {"size": [4, 3], "counts": L_RUNS}, "bbox": [0.5, 1, 2, 2.5]})
    assert found.box == (0.5, 1, 2.5, 3.5)
    assert not found.fractions


def test_a_box_alone_and_the_extra_keys():
    found = only({"bbox": [1, 1, 2, 2], "side": "Left", "identity": 12, "score": 0.5})
    assert (found.mask, found.side, found.identity, found.score) == (None, "left", "12", 0.5)
    plain = only({"bbox": [1, 1, 2, 2], "segmentation": [], "side": None, "identity": "NA", "score": None})
    assert (plain.mask, plain.side, plain.identity, plain.score) == (None, "unknown", None, None)


def test_annotations_are_joined_by_id_not_by_position():
    boxes = [{"bbox": [n, 0, 1, 1], "image_id": image} for n, image in enumerate((9, 7, 9))]
    found = coco.read(content(*boxes), "f.json")
    assert {name: [g.box[0] for g in given] for name, given in found.items()} == {"a/1.jpg": [1], "2.jpg": [0, 2]}


def test_photos_without_animals_stay_and_crowds_and_people_go():
    box = {"bbox": [0, 0, 1, 1]}
    found = coco.read(content(box | {"iscrowd": 1}, box | {"category_id": 5}), "f.json")
    assert found == {"a/1.jpg": [], "2.jpg": []}


def test_names_are_normalised_and_ids_may_be_texts():
    images = [{"id": "x1", "file_name": ".\\a\\1.jpg"}]
    annotations = [{"id": 1, "image_id": "x1", "bbox": [0, 0, 1, 1]}]
    assert len(coco.read({"images": images, "annotations": annotations}, "f.json")["a/1.jpg"]) == 1


def test_a_mask_brings_its_size_where_the_image_has_none():
    found = only({"segmentation": {"size": [4, 3], "counts": L_RUNS}}, width=None, height=None)
    assert found.mask["size"] == [4, 3]


@pytest.mark.parametrize(("annotation", "message"), [
    ({}, "expected a bbox"),
    ({"bbox": [0, 0, 0, 5]}, "size above 0"),
    ({"bbox": [0, 0, 5]}, "expected a bbox"),
    ({"bbox": [0, 0, float("nan"), 5]}, "expected a bbox"),
    ({"bbox": "[0, 0, 5, 5]"}, "expected a bbox"),
    ({"bbox": [0, 0, 1, 1], "side": "top"}, "expected a side out of left, right"),
    ({"bbox": [0, 0, 1, 1], "score": 7}, "score from 0 to 1"),
    ({"image_id": 8}, "image_id of an image"),
    ({"segmentation": [[0, 0, 1, 1]]}, "at least 3 points"),
    ({"segmentation": [[0, 0, 1, 0, 1]]}, "annotation 0 of a/1.jpg"),  # an odd number of values
    ({"segmentation": [[0, 0, 1e9, 0, 1, 1]]}, "far outside"),
    ({"segmentation": [[0, 0, float("inf"), 0, 1, 1]]}, "far outside"),
    ({"segmentation": [[0.1, 0.1, 0.2, 0.1, 0.2, 0.2]]}, "empty"),  # less than a pixel
    ({"segmentation": "mask.png"}, "annotation 0 of a/1.jpg"),
    ({"segmentation": {"size": [3, 4], "counts": L_RUNS}}, r"\[4, 3\] .* found \[3, 4\]"),  # width and height exchanged
    ({"segmentation": {"size": [4, 3], "counts": [0, 4]}}, "has 4 pixels, its photo 3 x 4"),  # runs are missing
    ({"segmentation": {"size": [4, 3], "counts": [0, 500]}}, "has 500 pixels"),
    ({"segmentation": {"size": [4, 3], "counts": [12]}}, "empty"),
    ({"segmentation": {"size": [4, 3], "counts": [-3, 15]}}, "annotation 0"),
    ({"segmentation": {"size": [4, 3], "counts": "garbage!!"}}, "damaged"),
    ({"segmentation": {"size": [4, 3], "counts": "oooooooooooooo0"}}, "damaged"),  # a number without end
    ({"segmentation": {"size": [4, 3], "counts": "öö"}}, "damaged"),
    ({"segmentation": {"size": [4, 3]}}, "counts|RLE"),
    ({"segmentation": {"counts": L_RUNS}}, "size"),
])  # fmt: skip
def test_bad_annotations(annotation, message):
    with pytest.raises(UserError, match=message):
        coco.read(content(annotation), "f.json")


@pytest.mark.parametrize(("images", "message"), [
    ([{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}], "image 1 .b.jpg. is there twice"),
    ([{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "./a.jpg"}], "twice"),
    ([{"file_name": "a.jpg"}], "an id and a file_name"),
    ([{"id": 1}], "an id and a file_name"),
    (["a.jpg"], "an id and a file_name"),
])  # fmt: skip
def test_bad_images(images, message):
    with pytest.raises(UserError, match=message):
        coco.read({"images": images, "annotations": []}, "f.json")


def test_polygons_need_the_size_of_their_photo():
    with pytest.raises(UserError, match="'height' of its image or its mask is missing"):
        coco.read(content({"image_id": 9, "segmentation": [[0, 0, 1, 0, 1, 1]]}), "f.json")


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.5, 0.99]))
def test_runs_add_up_to_the_photo_and_to_the_mask(height, width, seed, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    runs = segmentations.runs(masks.encode(mask)["counts"])
    assert (runs >= 0).all()
    assert runs.sum() == height * width
    assert runs[1::2].sum() == mask.sum()
