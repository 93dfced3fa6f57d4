"""Key points: inside the mask, the strongest first, and in shares of the picture."""

from __future__ import annotations

import cv2
import numpy as np

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
