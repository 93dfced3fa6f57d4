import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pusa.pattern import patches


@pytest.mark.parametrize(
    ("shape", "corners"),
    [
        ((64, 64), [(0, 0)]),  # one patch exactly
        ((10, 10), [(0, 0)]),  # smaller: one patch that reaches over the edge
        ((64, 96), [(0, 0), (32, 0)]),
        ((64, 95), [(15, 0)]),  # 31 px are left over: 15 on the left, 16 on the right
        ((64, 127), [(15, 0), (47, 0)]),
        ((128, 96), [(0, 0), (32, 0), (0, 32), (32, 32), (0, 64), (32, 64)]),  # row by row
    ],
)
def test_grid(shape, corners):
    boxes = patches.grid(shape, 32)
    assert boxes.tolist() == [[x, y, x + 64, y + 64] for x, y in corners]


@pytest.mark.parametrize(
    ("white", "kept"),
    [
        (409, False),  # 10 % of 4096 pixels are 409.6
        (410, True),
        (0, False),
        (4096, True),
    ],
)
def test_ten_percent_rule(white, kept):
    pattern = np.zeros(64 * 64, bool)
    pattern[:white] = True
    found, boxes = patches.extract(pattern.reshape(64, 64), patches.PatchConfig())
    assert (len(found), len(boxes)) == (kept, kept)


def test_exactly_the_limit_stays():
    pattern = np.zeros((64, 64), bool)
    pattern[:16] = True  # one quarter
    assert len(patches.extract(pattern, patches.PatchConfig(min_white=0.25))[0]) == 1
    pattern[0, 0] = False
    assert len(patches.extract(pattern, patches.PatchConfig(min_white=0.25))[0]) == 0


def test_small_pattern_is_padded_with_black():
    pattern = np.ones((40, 50), bool)
    found, boxes = patches.extract(pattern, patches.PatchConfig())
    assert boxes.tolist() == [[0, 0, 64, 64]]
    assert found[0, :40, :50].all()
    assert found[0].sum() == 40 * 50


def test_windows_are_the_pixels_of_the_boxes():
    pattern = np.random.default_rng(0).random((100, 180)) < 0.4
    found, boxes = patches.extract(pattern, patches.PatchConfig(stride=32))
    assert len(found) == 2 * 4
    for patch, (x0, y0, x1, y1) in zip(found, boxes, strict=True):
        assert np.array_equal(patch, pattern[y0:y1, x0:x1])


def test_photo_pixels_by_hand():
    # A pattern of 100 x 64 on a crop box of 200 x 128 px at (1000, 500): one pattern pixel is two photo pixels.
    boxes = patches.to_photo(np.array([[18, 0, 82, 64]]), (100, 64), np.array([1000, 500, 1200, 628]))
    assert boxes.tolist() == [[1036, 500, 1164, 628]]


side = st.integers(1, 5000)


@settings(deadline=None)
@given(side, side, st.floats(0.1, 2), st.integers(0, 20_000), st.integers(0, 20_000))
def test_boxes_survive_the_way_through_the_photo(width, height, scale, x, y):
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    crop_box = np.array([x, y, x + width, y + height])
    boxes = patches.grid(size[::-1], 32)
    back, back_size = patches.from_photo(patches.to_photo(boxes, size, crop_box), crop_box)
    assert back_size == size
    assert np.array_equal(back, boxes)


@settings(deadline=None)
@given(st.integers(20, 300), st.integers(20, 300), st.floats(0.2, 2), st.integers(0, 1000))
def test_cut_finds_the_very_patches_again(width, height, scale, seed):
    rng = np.random.default_rng(seed)
    pattern = rng.random((height, width)) < 0.5
    normalised = patches.resize(pattern, (max(1, round(width * scale)), max(1, round(height * scale))))
    found, boxes = patches.extract(normalised, patches.PatchConfig())
    crop_box = np.array([*rng.integers(0, 6000, 2), 0, 0])
    crop_box[2:] = crop_box[0] + width, crop_box[1] + height
    stored = patches.to_photo(boxes, normalised.shape[::-1], crop_box)
    assert np.array_equal(patches.cut(pattern, stored, crop_box), found)


def test_cut_of_nothing():
    assert patches.cut(np.zeros((9, 9), bool), np.zeros((0, 4)), np.array([0, 0, 9, 9])).shape == (0, 64, 64)


def test_around_points_by_hand():
    # 100 x 200 px. The second point is 5 px from the first along both axes: left out; the third is 6 away along one.
    # The fourth lies at the corner: its box is moved inside.
    points = np.array([(100, 50), (105, 55), (106, 50), (198, 2)])
    expected = [(68, 18, 132, 82), (74, 18, 138, 82), (136, 0, 200, 64)]
    assert patches.around(points, (100, 200), 6).tolist() == [list(box) for box in expected]
    assert patches.around(points[:0], (100, 200), 6).shape == (0, 4)
    assert patches.around(points[:1], (20, 30), 6).tolist() == [[0, 0, 64, 64]]  # smaller than a patch


def test_patches_around_points_are_the_first_with_enough_white():
    pattern = np.zeros((100, 200), bool)
    pattern[:, :100] = True
    points = np.array([(0.9, 0.5), (0.3, 0.5), (0.2, 0.5), (0.25, 0.8)])  # the first lies where nothing is white
    config = patches.PatchConfig(at="keypoints", most=2)
    found, boxes = patches.extract(pattern, config, points)
    assert boxes.tolist() == [[28, 18, 92, 82], [8, 18, 72, 82]]
    assert found.all()
