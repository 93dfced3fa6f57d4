import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from pusa.errors import UserError
from pusa.segmentation import masks

# 4 high, 3 wide:      columns, downwards:
#   1 0 0              1111 0001 0001
#   1 0 0              runs, background first: 0, 4, 3, 1, 3, 1
#   1 0 0
#   1 1 1
L_SHAPE = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1]], bool)

# Two parts, one of them with a hole
RING_AND_DOT = np.zeros((7, 9), bool)
RING_AND_DOT[1:6, 1:6] = True
RING_AND_DOT[3, 3] = False
RING_AND_DOT[2:4, 7:9] = True


def counts(rle):
    """The runs of a compressed RLE, read back from the mask itself."""
    flat = np.concatenate([[False], coco.decode(rle).ravel(order="F").astype(bool)])
    edges = np.flatnonzero(np.diff(flat))
    return np.diff(edges, prepend=0, append=flat.size - 1).tolist()


def test_l_shape_by_hand():
    rle = masks.encode(L_SHAPE)
    assert rle["size"] == [4, 3]
    assert rle == masks.from_coco({"size": [4, 3], "counts": [0, 4, 3, 1, 3, 1]}, 4, 3)
    # Compressed: each n from -16 to 15 is the character 48 + n modulo 32; n is the run, from the fourth run on its
    # difference from the run before the last: 0, 4, 3, 1 - 4 = -3 (29 modulo 32), 3 - 3 = 0, 1 - 1 = 0
    assert rle["counts"] == "".join(chr(48 + n) for n in (0, 4, 3, 29, 0, 0))
    assert (masks.decode(rle) == L_SHAPE).all()
    assert masks.area(rle) == 6
    assert masks.box(rle).tolist() == [0, 0, 3, 4]


def test_parts_and_holes_survive():
    rle = masks.encode(RING_AND_DOT)
    assert (masks.decode(rle) == RING_AND_DOT).all()
    assert masks.area(rle) == 28
    assert masks.box(rle).tolist() == [1, 1, 9, 6]


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_encode_agrees_with_pycocotools(mask):
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert masks.encode(mask) == {"size": list(mask.shape), "counts": expected["counts"].decode()}


@given(
    arrays(bool, st.tuples(st.integers(0, 6), st.integers(0, 6))),
    st.tuples(*[st.integers(0, 3)] * 4),
)
def test_a_part_is_encoded_in_its_place(part, margins):
    top, bottom, left, right = margins
    whole = np.pad(part, ((top, bottom), (left, right)))
    if not whole.size:
        return
    assert masks.encode(part, whole.shape, (left, top)) == masks.encode(whole)


def test_a_part_outside_the_photo_is_refused():
    with pytest.raises(ValueError, match="does not lie"):
        masks.encode(L_SHAPE, (4, 4), (2, 0))


def test_polygons():
    square = [[1, 1, 4, 1, 4, 3, 1, 3]]
    expected = np.zeros((6, 8), bool)
    expected[1:3, 1:4] = True
    assert (masks.decode(masks.from_coco(square, 6, 8)) == expected).all()
    second = [5, 2, 7, 2, 7, 5, 5, 5]  # two polygons are two parts of one animal
    expected[2:5, 5:7] = True
    assert (masks.decode(masks.from_coco([*square, second], 6, 8)) == expected).all()


@pytest.mark.parametrize(
    "segmentation",
    [
        [],  # no polygon
        [[1, 1, 2, 2]],  # two points
        [[1, 1, 2, 2, 3, 3, 4]],  # an odd number of coordinates
        [1, 1, 2, 2, 3, 3],  # a polygon outside of a list
        {"size": [6, 8]},  # no counts
        {"size": [8, 6], "counts": [48]},  # width before height
        None,
    ],
)
def test_what_is_no_segmentation(segmentation):
    with pytest.raises(UserError, match="expected"):
        masks.from_coco(segmentation, 6, 8)


def test_iou_by_hand():
    column = np.zeros((4, 3), bool)
    column[:, 0] = True  # 4 pixels, all in the L of 6
    empty = np.zeros((4, 3), bool)
    first, second = [masks.encode(L_SHAPE), masks.encode(empty)], [masks.encode(column), masks.encode(L_SHAPE)]
    np.testing.assert_allclose(masks.iou(first, second), [[4 / 6, 1], [0, 0]])
    assert masks.iou([], second).shape == (0, 2)
    assert masks.iou(first, []).shape == (2, 0)


def test_crop_of_a_mask():
    rle = masks.encode(RING_AND_DOT)
    assert (masks.crop_mask(rle, (1, 1, 6, 6), (5, 5)) == RING_AND_DOT[1:6, 1:6]).all()
    # Twice as large: every pixel becomes four, and the lone hole keeps its middle.
    large = masks.crop_mask(rle, (6, 1, 9, 5), (6, 8))
    assert large.shape == (8, 6)
    assert large[2:6, 2:6].sum() >= 14
    assert not large[:, :1].any()
    # Half the size: a pixel is set where at least half of it was.
    half = masks.crop_mask(masks.encode(np.kron(L_SHAPE, np.ones((2, 2), bool))), (0, 0, 6, 8), (3, 4))
    assert (half == L_SHAPE).all()


def test_detections_above_a_threshold():
    rle = masks.encode(L_SHAPE)
    found = masks.Detections(np.zeros((3, 4), np.float32), np.array([0.9, 0.8, 0.7], np.float32), [rle] * 3)
    assert len(found.above(0.75)) == 2
    assert len(found.above(0.95)) == 0
