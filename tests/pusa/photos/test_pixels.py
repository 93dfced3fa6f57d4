"""Pixels of photos, of every kind that an archive holds."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_photos import SMALL, encoded, header_of, jpeg_of, png_of, smooth
from PIL import Image

from pusa import photos
from pusa.errors import PhotoError

# SMALL seen upright, from the EXIF standard: which side of the photo the first stored row and column are.
TURNED = {
    1: SMALL,
    2: SMALL[:, ::-1],  # mirrored
    3: np.rot90(SMALL, 2),
    4: SMALL[::-1],  # upside down, mirrored
    5: SMALL.transpose(1, 0, 2),  # row 0 is the left side, column 0 the top
    6: np.rot90(SMALL, -1),  # turn clockwise
    7: np.rot90(SMALL, 2).transpose(1, 0, 2),
    8: np.rot90(SMALL, 1),  # turn anticlockwise
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])  # without loss, so that pixels can be compared
@pytest.mark.parametrize("orientation", TURNED)
def test_orientation_is_applied_once(tmp_path, form, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    content = encoded(SMALL, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    decoded, header = photos.decode(content), header_of(tmp_path, content)
    np.testing.assert_array_equal(decoded, TURNED[orientation])
    assert (header.height, header.width) == decoded.shape[:2]
    assert header.orientation == orientation


@pytest.mark.parametrize("orientation", TURNED)
def test_orientation_of_jpeg(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    plain = photos.decode(encoded(smooth(), "JPEG"))
    content = encoded(smooth(), "JPEG", exif=exif)
    turns = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2),
             6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: np.rot90}  # fmt: skip
    decoded, header = photos.decode(content), header_of(tmp_path, content)
    np.testing.assert_array_equal(decoded, turns[orientation](plain))
    assert decoded.flags.c_contiguous
    assert (header.height, header.width) == decoded.shape[:2]


@pytest.mark.parametrize(("mode", "form", "tolerance"), [
    ("RGB", "JPEG", 12),
    ("RGB", "PNG", 0),
    ("RGB", "WEBP", 25),
    ("CMYK", "JPEG", 12),  # without a profile: the plain complement
    ("CMYK", "TIFF", 0),
    ("RGBA", "PNG", 0),  # opaque
    ("YCbCr", "TIFF", 3),
    ("P", "PNG", 80),  # 256 colours of the web, dithered
])  # fmt: skip
def test_colour_modes(mode, form, tolerance):
    decoded = photos.decode(encoded(smooth(), form, mode))
    assert decoded.shape == (60, 80, 3)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - smooth()).max() <= tolerance


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_grey_becomes_three_equal_channels(form):
    grey = smooth()[..., 0]
    decoded = photos.decode(encoded(grey, form))
    assert decoded.shape == (60, 80, 3)
    assert (decoded[..., 0] == decoded[..., 2]).all()
    assert np.abs(decoded[..., 1].astype(int) - grey).max() <= 3


def test_one_bit_picture():
    decoded = photos.decode(encoded(np.eye(4, dtype=bool), "PNG"))
    np.testing.assert_array_equal(decoded[..., 0], np.eye(4) * 255)


def test_transparent_pixels_become_black():
    rgba = np.full((1, 3, 4), 200, np.uint8)
    rgba[0, :, 3] = 255, 0, 128
    decoded = photos.decode(encoded(rgba, "PNG"))
    assert decoded[0, 0].tolist() == [200] * 3
    assert decoded[0, 1].tolist() == [0] * 3
    assert abs(int(decoded[0, 2, 0]) - 100) <= 1


@pytest.mark.parametrize("extension", [".png", ".tiff"])
def test_sixteen_bits_are_scaled_by_the_range_of_the_type(extension):
    # 257 = 65535 / 255. A dark photo stays dark: values are not stretched to their own range.
    grey = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    decoded = photos.decode(cv2.imencode(extension, grey)[1].tobytes())
    assert decoded[0, :, 0].tolist() == [0, 1, 128, 255]
    colour = np.stack([grey, grey[:, ::-1], grey], axis=2)  # BGR for OpenCV
    decoded = photos.decode(cv2.imencode(extension, colour)[1].tobytes())
    assert decoded[0].tolist() == [[0, 255, 0], [1, 128, 1], [128, 1, 128], [255, 0, 255]]


def test_float_tiff_is_refused():
    with pytest.raises(PhotoError, match="8 or 16 bits"):
        photos.decode(encoded(np.ones((3, 4), np.float32), "TIFF"))


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "empty"),
    (b"hello, I am a text file", "not a JPEG, PNG, TIFF or WebP"),
    (b"GIF89a" + bytes(100), "not a JPEG"),  # another kind of picture
    (encoded(smooth(), "JPEG")[:400], "truncated"),  # within the header's tables
    (encoded(smooth(600, 800), "JPEG")[:-3000], "truncated"),  # half grey, with most readers
    (encoded(smooth(600, 800), "JPEG", progressive=True)[:-3000], "truncated"),
    (encoded(smooth(), "JPEG")[:-2], "truncated"),  # only the end marker
    (encoded(smooth(), "PNG")[:-60], "truncated"),
    (encoded(smooth(), "TIFF")[:-9000], "truncated"),
    (encoded(smooth(), "WEBP")[:-200], "truncated|not a JPEG"),
    (png_of(20000, 15000), "20000 x 15000 pixels are more than the limit of 200 megapixels"),
    (jpeg_of(20000, 15000), "20000 x 15000"),
    (jpeg_of(65000, 65000), "65000 x 65000"),
    (png_of(2**31 - 1, 2**31 - 1), "limit"),
    (png_of(40, 30), "truncated"),  # far too few pixels
])  # fmt: skip
def test_bad_files_say_why(content, reason):
    with pytest.raises(PhotoError, match=reason):
        photos.decode(content)


def test_the_limit_of_pixels_can_be_chosen():
    content = encoded(smooth(), "PNG")
    assert photos.decode(content, max_pixels=4800).shape == (60, 80, 3)
    with pytest.raises(PhotoError, match="limit"):
        photos.decode(content, max_pixels=4799)


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm():
    content = encoded(smooth(), "JPEG")
    np.testing.assert_array_equal(photos.decode(content + bytes(500)), photos.decode(content))


def test_only_the_first_picture_of_a_file_is_taken():
    buffer = io.BytesIO()
    Image.fromarray(SMALL).save(buffer, "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    np.testing.assert_array_equal(photos.decode(buffer.getvalue()), SMALL)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP"]), st.integers(0, 10**6), st.binary(min_size=1, max_size=30))
def test_damage_gives_pixels_or_a_reason(form, place, damage):
    content = bytearray(encoded(smooth(20, 30), form))
    place %= len(content)
    content[place : place + len(damage)] = damage
    try:
        decoded = photos.decode(bytes(content), max_pixels=10**6)
    except PhotoError:  # no other error may come
        return
    assert decoded.ndim == 3
    assert decoded.dtype == np.uint8


def test_crops_survive_jpeg():
    again = photos.decode_jpeg(photos.encode_jpeg(smooth()))
    assert np.abs(again.astype(int) - smooth()).max() <= 12
    assert len(photos.encode_jpeg(smooth(), 30)) < len(photos.encode_jpeg(smooth(), 95))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_masks_survive_png(height, width, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    content = photos.encode_mask_png(mask)
    np.testing.assert_array_equal(photos.decode_mask_png(content), mask)
    assert Image.open(io.BytesIO(content)).mode == "1"


def test_a_damaged_stored_picture_is_a_photo_error():
    for read in (photos.decode_jpeg, photos.decode_mask_png):
        with pytest.raises(PhotoError, match="damaged"):
            read(b"nothing")
