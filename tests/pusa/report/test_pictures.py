import base64

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusa.report import pictures


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (1024, 512, (400, 200)),  # both limits at once
        (1024, 256, (400, 100)),  # a long animal: its width decides
        (500, 1000, (100, 200)),  # an upright one: its height decides
        (40, 30, (40, 30)),  # small: not enlarged
        (4000, 1, (400, 1)),  # never less than a pixel
    ],
)
def test_fit(width, height, size):
    assert pictures.fit(width, height, (400, 200)) == size


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_fit_stays_within_its_limits(width, height):
    w, h = pictures.fit(width, height, (400, 200))
    assert 1 <= w <= min(400, width)
    assert 1 <= h <= min(200, height)


def test_thumbnail_averages_the_pixels_it_merges():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = (200, 100, 50)
    small = pictures.thumbnail(stripes, (200, 200))
    assert small.shape == (200, 200, 3)
    assert np.unique(small.reshape(-1, 3), axis=0).tolist() == [[100, 50, 25]]


def test_outline_of_a_rectangle_is_its_corners():
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:7] = True  # y from 2 to 4, x from 3 to 6
    (polygon,) = pictures.outline(mask)
    assert sorted(polygon.tolist()) == [[3, 2], [3, 4], [6, 2], [6, 4]]


def test_outline_follows_parts_and_holes():
    mask = np.zeros((40, 60), bool)
    mask[5:35, 5:35] = True
    mask[15:25, 15:25] = False  # a hole
    mask[10:20, 45:55] = True  # a part behind a rock
    drawn = np.zeros(mask.shape, np.uint8)
    polygons = pictures.outline(mask, tolerance=0)
    cv2.polylines(drawn, polygons, True, 1)
    assert len(polygons) == 3
    inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3)), borderValue=0)
    assert not drawn[inside == 1].any()  # the animal itself is not drawn over
    assert not drawn[:, 36:45].any()  # and the parts are not joined


def test_no_mask_no_outline():
    assert pictures.svg_path(pictures.outline(np.zeros((5, 5), bool))) == ""


def test_svg_path_is_closed_and_runs_through_the_middle_of_pixels():
    triangle = np.array([[0, 0], [4, 0], [4, 3]], np.int32)
    assert pictures.svg_path([triangle, triangle[:1]]) == "M0.5 0.5L4.5 0.5L4.5 3.5ZM0.5 0.5Z"


def test_panel_has_white_rings_on_a_dark_animal_on_black():
    mask = np.zeros((4, 4), bool)
    mask[:, :3] = True
    pattern = np.zeros((8, 8), bool)
    pattern[0:2, 0:2] = True  # all of pixel 0, 0
    pattern[4:6, 2:3] = True  # one half of pixel y = 2, x = 1
    pattern[0:2, 4:6] = True  # all of pixel 0, 2: in no patch
    panel = pictures.pattern_panel(pattern, mask, np.array([[0.0, 0, 2, 4]]))
    body, dropped, ring = pictures.BODY, pictures.DROPPED, pictures.RING
    assert panel.tolist() == [
        [ring, body, dropped, 0],
        [body, body, body, 0],
        [body, round((body + ring) / 2), body, 0],
        [body, body, body, 0],
    ]


@pytest.mark.parametrize(
    ("picture", "form", "tolerance"),
    [
        (np.full((16, 16, 3), (200, 40, 10), np.uint8), "jpeg", 6),  # colour order is kept
        (np.eye(16, dtype=np.uint8) * 255, "png", 0),  # grey, without loss
    ],
)
def test_data_uri_decodes_to_the_picture(picture, form, tolerance):
    head, content = pictures.data_uri(picture, form).split(",")
    assert head == f"data:image/{form};base64"
    flags = cv2.IMREAD_COLOR_RGB if picture.ndim == 3 else cv2.IMREAD_GRAYSCALE
    back = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), flags)
    assert np.abs(back.astype(int) - picture).max() <= tolerance
