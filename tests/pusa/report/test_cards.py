import base64
import datetime as dt

import cv2
import numpy as np
import pytest

from pusa import photos
from pusa.report import cards

NOON = dt.datetime(2021, 6, 3, 12, 0)


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        ([], None),
        ([None], None),  # no invented times
        ([3], "2021-06-03, 12:03"),
        ([3, None, 3.5], "2021-06-03, 12:03"),  # within a minute
        ([9, 3], "2021-06-03, 12:03 to 12:09"),  # not in order
        ([3, 720], "2021-06-03, 12:03 to 2021-06-04, 00:00"),  # past midnight
    ],
)
def test_span(minutes, text):
    assert cards.span(m if m is None else NOON + dt.timedelta(minutes=m) for m in minutes) == text


def test_face_is_small_or_absent():
    assert cards.face(None) is None
    uri = cards.face(photos.encode_jpeg(np.zeros((600, 300, 3), np.uint8)))
    content = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
    assert cv2.imdecode(content, cv2.IMREAD_COLOR).shape == (110, 55, 3)
