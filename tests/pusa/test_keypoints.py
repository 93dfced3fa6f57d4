"""Key points: inside the mask, the strongest first, and in shares of the picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pusa import keypoints


def blots(*middles: tuple[int, int], strength: int = 80) -> np.ndarray:
    """A grey picture, 200 x 320, with dark blots at these places."""
    grey = np.full((200, 320), 150, np.uint8)
    for middle in middles:
        cv2.circle(grey, middle, 6, 150 - strength, -1)
    return cv2.GaussianBlur(grey, (0, 0), 2)


def test_points_lie_on_the_marks_inside_the_mask():
    grey = blots((80, 60), (240, 140))
    inside = np.zeros(grey.shape, bool)
    inside[20:100, 40:120] = True  # around the first blot only
    found = keypoints.points_in(grey, inside, 100) * (320, 200)
    assert len(found)
    assert np.linalg.norm(found - (80, 60), axis=1).max() < 20
    assert np.linalg.norm(found - (80, 60), axis=1).min() < 3


def test_the_strongest_come_first():
    grey = np.minimum(blots((80, 60), strength=100), blots((240, 140), strength=15))
    (first,) = keypoints.strongest(grey, None, 1)
    assert np.hypot(first.pt[0] - 80, first.pt[1] - 60) < 4


@pytest.mark.parametrize(
    ("across", "angle"),
    [
        ((100, 0), 0),  # along x
        ((70, 70), 45),  # to the lower right
        ((70, -70), -45),
        ((0, 100), 90),  # upright: 90 and -90 are one axis
        ((-100, 0), 0),  # an axis has no front
    ],
)
def test_the_angle_of_a_body(across, angle):
    mask = np.zeros((300, 300), np.uint8)
    x, y = across
    cv2.line(mask, (150 - x, 150 - y), (150 + x, 150 + y), 255, 20)
    off = keypoints.body_angle(mask > 0) - angle
    assert abs((off + 90) % 180 - 90) < 0.5


def test_a_body_without_pixels_lies_along_x():
    assert keypoints.body_angle(np.zeros((20, 20), bool)) == 0


def test_a_place_of_several_angles_is_one_where_all_have_the_same():
    """SIFT gives the middle of a cross four angles, or more."""
    grey = np.full((200, 200), 150, np.uint8)
    cv2.line(grey, (60, 100), (140, 100), 60, 9)
    cv2.line(grey, (100, 60), (100, 140), 60, 9)
    grey = cv2.GaussianBlur(grey, (0, 0), 2)
    own, same = keypoints.strongest(grey, None, 500), keypoints.strongest(grey, None, 500, angle=30)
    assert len({(k.pt, k.size) for k in own}) == len(same) < len(own)
    assert {k.angle for k in same} == {30}
    assert [k.pt for k in keypoints.strongest(grey, None, 3, angle=30)] == [k.pt for k in same[:3]]


def test_the_same_places_at_any_size():
    grey = blots((80, 60), (240, 140), (160, 100))
    inside = np.ones(grey.shape, bool)
    large = cv2.resize(grey, None, fx=3, fy=3, interpolation=cv2.INTER_LINEAR)
    a, b = keypoints.points_in(grey, inside, 30), keypoints.points_in(large, np.ones(large.shape, bool), 30)
    nearest = np.linalg.norm(a[:, None] - b, axis=2).min(axis=1)
    assert np.median(nearest) < 0.01


def test_nothing_to_find():
    flat = np.full((50, 60), 90, np.uint8)
    assert keypoints.points_in(flat, np.ones(flat.shape, bool), 10).shape == (0, 2)
    assert keypoints.points_in(blots((80, 60)), np.zeros((200, 320), bool), 10).shape == (0, 2)
