"""Headers of photos: time, camera and place."""

import datetime as dt
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_photos import LOCAL, SMALL, encoded, header_of, jpeg_of
from PIL import Image

from pusa import photos
from pusa.errors import PhotoError

ORIGINAL, DIGITIZED, CHANGED = (0x8769, 0x9003), (0x8769, 0x9004), (None, 0x0132)
FRACTION, MAKE, MODEL, SERIAL = (0x8769, 0x9291), (None, 0x010F), (None, 0x0110), (0x8769, 0xA431)


def exif_of(tags, gps=None):
    exif = Image.Exif()
    for (ifd, tag), value in tags.items():
        (exif.get_ifd(ifd) if ifd else exif)[tag] = value
    if gps:
        exif.get_ifd(0x8825).update(gps)
    return exif


NOON = "2021:05:01 12:00:00"


@pytest.mark.parametrize(("tags", "expected"), [
    ({ORIGINAL: NOON}, dt.datetime(2021, 5, 1, 12)),
    ({ORIGINAL: NOON, DIGITIZED: "2022:01:01 00:00:00", CHANGED: "2023:01:01 00:00:00"}, dt.datetime(2021, 5, 1, 12)),
    ({DIGITIZED: NOON, CHANGED: "2023:01:01 00:00:00"}, dt.datetime(2021, 5, 1, 12)),
    ({CHANGED: NOON}, dt.datetime(2021, 5, 1, 12)),
    ({ORIGINAL: NOON, FRACTION: "5"}, dt.datetime(2021, 5, 1, 12, 0, 0, 500_000)),  # tenths
    ({ORIGINAL: NOON, FRACTION: "0425"}, dt.datetime(2021, 5, 1, 12, 0, 0, 42_000)),  # to the millisecond
    ({ORIGINAL: NOON, FRACTION: "x"}, dt.datetime(2021, 5, 1, 12)),
    ({ORIGINAL: "2021-05-01 12:00:00"}, dt.datetime(2021, 5, 1, 12)),  # some programs write dashes
    ({ORIGINAL: "0000:00:00 00:00:00", CHANGED: NOON}, dt.datetime(2021, 5, 1, 12)),  # a clock that was never set
    ({ORIGINAL: "0000:00:00 00:00:00"}, None),
    ({ORIGINAL: "2021:02:30 12:00:00"}, None),  # no such day
    ({ORIGINAL: "    :  :     :  :  "}, None),  # the standard's way to say "not known"
    ({}, None),
])  # fmt: skip
def test_time(tmp_path, tags, expected):
    assert header_of(tmp_path, encoded(SMALL, "JPEG", exif=exif_of(tags))).taken_at == expected


@pytest.mark.parametrize(("tags", "expected"), [
    ({MAKE: "NIKON CORPORATION", MODEL: "NIKON D850"}, "NIKON D850"),  # the maker is not said twice
    ({MAKE: "Canon", MODEL: "Canon EOS R5", SERIAL: "0123"}, "Canon EOS R5 (0123)"),
    ({MAKE: "RECONYX", MODEL: "HC600 HYPERFIRE"}, "RECONYX HC600 HYPERFIRE"),
    ({MAKE: "RECONYX  \0\0", MODEL: " HC600\0"}, "RECONYX HC600"),
    ({MODEL: "HC600"}, "HC600"),
    ({SERIAL: "77"}, "(77)"),
    ({}, None),
])  # fmt: skip
def test_camera(tmp_path, tags, expected):
    assert header_of(tmp_path, encoded(SMALL, "JPEG", exif=exif_of(tags))).camera == expected


@pytest.mark.parametrize(("gps", "expected"), [
    ({1: "N", 2: (62.0, 6.0, 36.0), 3: "E", 4: (28.0, 30.0, 0.0)}, (62.11, 28.5)),
    ({1: "S", 2: (33.5, 0.0, 0.0), 3: "W", 4: (70.0, 15.0, 0.0)}, (-33.5, -70.25)),
    ({1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}, (None, None)),  # a receiver without a fix
    ({1: "N", 2: (91.0, 0.0, 0.0), 3: "E", 4: (28.0, 0.0, 0.0)}, (None, None)),  # no such latitude
    ({2: (62.0, 0.0, 0.0), 4: (28.0, 0.0, 0.0)}, (None, None)),  # which half of the Earth?
    ({1: "N", 2: (62.0, 0.0, 0.0)}, (None, None)),  # one alone says nothing
    (None, (None, None)),
])  # fmt: skip
def test_place(tmp_path, gps, expected):
    header = header_of(tmp_path, encoded(SMALL, "JPEG", exif=exif_of({MAKE: "x"}, gps)))
    assert (header.latitude, header.longitude) == pytest.approx(expected)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_other_formats_have_times_too(tmp_path, form):
    header = header_of(tmp_path, encoded(SMALL, form, exif=exif_of({ORIGINAL: NOON, MODEL: "X100"}).tobytes()))
    assert (header.taken_at, header.camera) == (dt.datetime(2021, 5, 1, 12), "X100")


@pytest.mark.parametrize("exif", [
    b"Exif\0\0garbage",
    b"Exif\0\0",
    b"Exif\0\0II*\0\xff\xff\xff\xff",  # points far behind its end
    b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 50,  # 65535 tags
])  # fmt: skip
def test_broken_exif_is_no_error(tmp_path, exif):
    content = encoded(SMALL, "JPEG", exif=exif)
    assert header_of(tmp_path, content) == photos.Header(width=3, height=2)
    assert photos.decode(content).shape == (2, 3, 3)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60))
def test_exif_of_any_bytes_is_no_error(tmp_path_factory, exif):
    header = header_of(tmp_path_factory.getbasetemp(), encoded(SMALL, "JPEG", exif=b"Exif\0\0MM\0*" + exif))
    assert {header.width, header.height} == {2, 3}


def test_the_header_is_read_without_the_pixels(tmp_path):
    # Cut behind the first 64 KiB: all that the header says is still there; only decoding finds the damage.
    content = encoded(np.random.default_rng(0).integers(0, 255, (400, 600, 3), dtype=np.uint8), "JPEG")
    assert len(content) > 2**16
    assert header_of(tmp_path, content[: 2**16]).width == 600


def test_a_decoded_photo_has_the_size_of_its_header_where_exif_follows_the_pixels(tmp_path):
    # Only by decoding could a header know of an orientation behind the pixels of a PNG; so neither looks there.
    content = encoded(SMALL, "PNG", exif=exif_of({(None, 0x112): 6}))
    start = content.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", content[start : start + 4])[0]
    late = content[:start] + content[end:-12] + content[start:end] + content[-12:]
    header = header_of(tmp_path, late)
    assert (header.height, header.width) == photos.decode(late).shape[:2] == (2, 3)


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "empty"),
    (b"hello", "not a JPEG.*hello"),
    (jpeg_of(20000, 15000), "20000 x 15000"),
    (b"\xff\xd8\xff\xe0\x00\x10JF", "."),  # cut within the header
])  # fmt: skip
def test_bad_headers_say_why(tmp_path, content, reason):
    with pytest.raises(PhotoError, match=reason):
        header_of(tmp_path, content)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(PhotoError, match="cannot be opened"):
        photos.read_header(LOCAL, str(tmp_path / "none.jpg"))
