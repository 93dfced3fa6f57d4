import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pusa.synthetic.renderer_a import body
from pusa.synthetic.renderer_a.body import Pose, Shape


@pytest.mark.parametrize(
    ("pose", "elevation", "expected"),
    [
        (Pose(yaw=0), 10, "left"),  # nose to the photo's left: the left flank faces us
        (Pose(yaw=180), 10, "right"),
        (Pose(yaw=90), 10, "front"),
        (Pose(yaw=270), 10, "back"),
        (Pose(yaw=-90), 10, "back"),  # angles wrap around
        (Pose(yaw=40), 10, "left"),  # cos 40 > sin 40
        (Pose(yaw=50), 10, "front"),
        (Pose(yaw=0), 80, "up"),  # from high above
        (Pose(yaw=0, roll=60), 0, "up"),  # the back has turned to the animal's left, towards us
        (Pose(yaw=0, roll=-60), 0, "down"),  # the belly has
        (Pose(yaw=180, roll=60), 0, "down"),
        (Pose(yaw=0, roll=180), 0, "right"),  # lies on its back
    ],
)
def test_side(pose, elevation, expected):
    assert body.side(pose, elevation) == expected


@pytest.mark.parametrize(
    ("yaw", "quarter", "nose_left"),
    [
        (0, np.pi / 2, True),  # theta pi/2 is the left flank
        (180, 3 * np.pi / 2, False),
    ],
)
def test_flank_seen(yaw, quarter, nose_left):
    view = body.render(Shape(), Pose(yaw=yaw), 300, (400, 300), elevation=0)
    trunk = view.part == body.TRUNK
    assert abs(np.median(view.theta[trunk]) - quarter) < 0.35
    left, right = view.s[:, : view.s.shape[1] // 4][trunk[:, : view.s.shape[1] // 4]], view.s[trunk].max()
    assert (np.median(left) < right / 2) == nose_left
    columns = np.flatnonzero(trunk.any(axis=0))
    assert abs(np.ptp(columns) - 300) < 12  # length = pixels from nose to tail


@pytest.mark.parametrize("length", [40, 130, 600])
@pytest.mark.parametrize("yaw", [0, 35, 90, 215, 270])
def test_no_holes(length, yaw):
    view = body.render(Shape(), Pose(yaw=yaw, nod=20, bend=15), length, (0, 0), elevation=15, turn=2)
    _, _, stats, _ = cv2.connectedComponentsWithStats((~np.pad(view.mask, 1)).astype(np.uint8), connectivity=4)
    pinholes = (stats[1:, cv2.CC_STAT_AREA] <= 4) & (stats[1:, cv2.CC_STAT_WIDTH] <= 2)
    inner = stats[1:][pinholes]
    # A gap of a pixel or two between flipper and trunk is no hole of the surface.
    assert len(inner) <= 3
    np.testing.assert_allclose(np.linalg.norm(view.normal[view.mask], axis=1), 1, atol=1e-4)
    assert view.s.min() >= 0
    assert view.s.max() <= 1


@settings(max_examples=15, deadline=None)
@given(st.integers(-500, 500), st.integers(-500, 500), st.floats(0, 360))
def test_moving_by_whole_pixels_changes_only_the_place(dx, dy, yaw):
    here = body.render(Shape(), Pose(yaw=yaw), 60, (0.25, 0.5), elevation=10)
    there = body.render(Shape(), Pose(yaw=yaw), 60, (0.25 + dx, 0.5 + dy), elevation=10)
    assert abs(there.x0 - here.x0 - dx) <= 1  # a point on the very edge of a pixel may round to either
    assert abs(there.y0 - here.y0 - dy) <= 1
    assert abs(int(there.mask.sum()) - int(here.mask.sum())) <= 0.02 * here.mask.sum()


def test_quarter_turn_swaps_the_axes_of_the_photo():
    flat = body.render(Shape(), Pose(), 200, (0, 0), elevation=10)
    upright = body.render(Shape(), Pose(), 200, (0, 0), elevation=10, turn=90)
    assert np.abs(np.subtract(flat.mask.shape, upright.mask.shape[::-1])).max() <= 1
    rows = upright.s[upright.part == body.TRUNK].size  # clockwise: the nose, on the left before, is at the top now
    top = upright.s[:20][upright.part[:20] == body.TRUNK]
    assert rows > 1000
    assert top.mean() < 0.2


def test_fat_animals_are_higher():
    heights = [
        body.render(Shape(girth=g), Pose(), 300, (0, 0), elevation=0).mask.sum(axis=0).max() for g in (0.11, 0.17)
    ]
    assert heights[1] > 1.35 * heights[0]
