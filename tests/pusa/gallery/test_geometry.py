"""Geometry of two pictures: maps that are known are found again, and others are not made up."""

import cv2
import numpy as np
import pytest

from pusa.gallery import geometry
from pusa.gallery.geometry import Features, GeometryConfig, Points, features, match

CONFIG = GeometryConfig(side=320)


def test_a_known_map_is_found_again_in_pixels_of_the_photo(marks, instance):
    first = marks(0)
    turn = cv2.getRotationMatrix2D((160, 100), 12, 0.9) + np.array([[0, 0, 6], [0, 0, -4]])
    second = cv2.warpAffine(first, turn, (320, 200), borderMode=cv2.BORDER_REFLECT)
    a = features(instance(first, corner=(1000, 500), scale=2), CONFIG)  # stored at half its size
    b = features(instance(second, corner=(40, 20)), CONFIG)
    found = match(a, b, CONFIG)
    assert found.inliers > 30
    # A point of the first crop at (x, y) is in its photo at 2 (x, y) + (1000, 500), and of the second at + (40, 20).
    corners = np.array([(40, 40), (280, 40), (160, 160)], float)
    expected = corners @ turn[:, :2].T + turn[:, 2] + (40, 20)
    mapped = (2 * corners + (1000, 500)) @ found.map[:, :2].T + found.map[:, 2]
    np.testing.assert_allclose(mapped, expected, atol=2)
    moved = found.first @ found.map[:, :2].T + found.map[:, 2]
    assert np.linalg.norm(moved - found.second, axis=1).max() <= CONFIG.tolerance * b.side


@pytest.mark.parametrize(
    "other",
    [
        lambda marks: marks(1),  # another animal
        lambda marks: marks(0)[:, ::-1].copy(),  # its mirror image: the other flank of a toy, never of an animal
        lambda marks: np.full((200, 320, 3), 90, np.uint8),  # nothing
    ],
)
def test_other_pictures_give_few_inliers(marks, instance, other):
    first, second = (features(instance(crop), CONFIG) for crop in (marks(0), other(marks)))
    assert match(first, second, CONFIG).inliers < 10


def test_same_features_same_match(marks, instance):
    a, b = features(instance(marks(0)), CONFIG), features(instance(marks(1)), CONFIG)
    first, second = match(a, b, CONFIG), match(a, b, CONFIG)
    assert np.array_equal(first.first, second.first)
    assert np.array_equal(first.map, second.map)


def test_key_points_lie_inside_the_mask(marks, instance):
    left = np.zeros((200, 320), bool)
    left[:, :160] = True
    found = features(instance(marks(0), corner=(100, 0), mask=left), CONFIG)
    assert len(found.marks.at) > 20
    assert found.marks.at[:, 0].max() < 100 + 160


@pytest.mark.parametrize("size", [(2, 3), (1, 1), (3, 400)])
def test_crops_too_small_for_a_key_point(instance, size):
    found = features(instance(np.full((*size, 3), 90, np.uint8)), CONFIG)
    assert found.marks.at.shape == (0, 2)
    assert found.marks.descriptors.shape == (0, geometry.LENGTH)
    assert match(found, found, CONFIG).inliers == 0


def test_root_sift_by_hand():
    """Shares 1/4, 0, 3/4 of the sum: roots 1/2, 0, sqrt(3)/2. A descriptor of zeros stays zero."""
    d = np.zeros((2, 128), np.uint8)
    d[0, :3] = 10, 0, 30
    np.testing.assert_allclose(geometry.unit(d)[0, :3], [0.5, 0, 3**0.5 / 2], rtol=1e-6)
    assert not geometry.unit(d)[1].any()


def test_a_map_needs_four_points():
    few = Features(Points(np.zeros((3, 2), np.float32), np.eye(3, 128, dtype=np.uint8)), 100)
    assert match(few, few, CONFIG) is geometry.NO_MATCH


def test_lines_join_what_matches(marks, instance):
    """The same crop at two places of two photos: every line is level and as long as the pictures are apart."""
    first = features(instance(marks(0), corner=(1000, 500), scale=2), CONFIG)
    second = features(instance(marks(0), corner=(40, 20)), CONFIG)
    found = match(first, second, CONFIG)
    picture = geometry.draw(first, second, found)
    assert picture.shape == (200, 320 + 12 + 320, 3)
    plain = geometry.draw(first, second, geometry.NO_MATCH)
    drawn = np.abs(picture.astype(int) - plain).sum(axis=2) > 60
    assert drawn[:, 320:332].any()
    rows = np.flatnonzero(drawn[:, 320:332].any(axis=1))
    expected = found.second[:, 1] - 20
    assert all(np.abs(expected - row).min() < 2 for row in rows)
