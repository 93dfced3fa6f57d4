"""Listing, headers and pixels of photos, of every kind that an archive holds."""

import datetime as dt
import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import fs

from pusa import photos
from pusa.errors import PhotoError, UserError

LOCAL = fs.LocalFileSystem()
# A picture of 2 x 3 pixels, all different, so that every turn shows.
SMALL = np.arange(0, 180, 10, dtype=np.uint8).reshape(2, 3, 3)


def encoded(pixels, form, mode=None, **options):
    buffer = io.BytesIO()
    im = Image.fromarray(pixels)
    (im.convert(mode) if mode else im).save(buffer, form, **options)
    return buffer.getvalue()


def smooth(height=60, width=80):
    """A picture that JPEG keeps to a few grey levels."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3, y * 4, 255 - x * 2 - y], axis=2).astype(np.uint8)


def png_of(width, height, data=b""):
    """A PNG of a few bytes that says it has width x height pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def jpeg_of(width, height):
    """A small JPEG whose header says it has width x height pixels."""
    content = encoded(smooth(), "JPEG")
    frame = content.index(b"\xff\xc0") + 5
    return content[:frame] + struct.pack(">HH", height, width) + content[frame + 4 :]


def header_of(tmp_path, content):
    (tmp_path / "photo.jpg").write_bytes(content)
    return photos.read_header(LOCAL, str(tmp_path / "photo.jpg"))


# ------------------------------------------------------------------------------------------------ pixels

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


# ------------------------------------------------------------------------------------------------ headers

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


# ------------------------------------------------------------------------------------------------ listing


def archive_of(tmp_path, *paths):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"12345")
    return str(tmp_path)


def listed(archive):
    return [f.path for f in photos.list_photos(archive).files]


def test_listing(tmp_path):
    wanted = ["Z.JPG", "a b/ä.Jpeg", "a/1.png", "a/b/c/2.tif", "a/b/c/3.TIFF", "x.webp"]
    others = ["a/clip.mov", "notes.txt", "a/second.MOV", "README"]
    hidden = ["._Z.JPG", ".hidden/1.jpg", "a/.DS_Store", "a/@eaDir/1.jpg/SYNOPHOTO.jpg", "__MACOSX/a/1.jpg"]
    archive = archive_of(tmp_path, *wanted, *others, *hidden)
    listing = photos.list_photos(archive)
    assert [f.path for f in listing.files] == sorted(wanted)
    assert listing.other == {"mov": 2, "txt": 1, "": 1}
    first = listing.files[0]
    assert (first.size, first.mtime_ns) == (5, os.stat(tmp_path / "Z.JPG").st_mtime_ns)


def test_links(tmp_path):
    archive = archive_of(tmp_path / "archive", "a/1.jpg")
    archive_of(tmp_path / "elsewhere", "2.jpg")
    os.symlink(archive, tmp_path / "archive/a/circle")
    os.symlink(tmp_path / "elsewhere", tmp_path / "archive/b")
    os.symlink("nowhere", tmp_path / "archive/broken.jpg")
    # Each photo once, whatever the circle; the broken link stays, to become a row with an error.
    assert listed(archive) == ["a/1.jpg", "b/2.jpg", "broken.jpg"]
    with pytest.raises(PhotoError, match="broken link"):
        photos.read_header(LOCAL, f"{archive}/broken.jpg")


def test_a_name_that_is_not_utf8_is_listed_and_then_an_error(tmp_path):
    with open(os.fsencode(tmp_path) + b"/S\xe4rkk\xe4.jpg", "wb") as f:
        f.write(b"x")
    assert listed(str(tmp_path)) == ["S\\xe4rkk\\xe4.jpg"]
    with pytest.raises(PhotoError, match="not UTF-8"):
        photos.read_header(LOCAL, f"{tmp_path}/S\\xe4rkk\\xe4.jpg")


def test_a_folder_without_permission_is_told(tmp_path, monkeypatch):
    archive = archive_of(tmp_path, "a/1.jpg", "secret/2.jpg")
    real = os.scandir

    def scandir(path):  # chmod does not stop root, who may run the tests
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    listing = photos.list_photos(archive)
    assert [f.path for f in listing.files] == ["a/1.jpg"]
    assert listing.unreadable == ["secret"]


def test_other_file_systems_list_the_same(tmp_path):
    archive = archive_of(tmp_path, "b/2.JPG", "a.png", ".hid/3.jpg", "b/._2.JPG", "x.txt")
    remote = list(photos._walk_remote(LOCAL, archive))
    local = [*photos._walk_local(archive, photos.Listing([]))]
    assert sorted(remote, key=lambda f: f.path) == sorted(local, key=lambda f: f.path)


def test_no_such_archive(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        photos.list_photos(str(tmp_path / "none"))
    archive_of(tmp_path, "a.jpg")
    with pytest.raises(UserError, match="is a file"):
        photos.list_photos(str(tmp_path / "a.jpg"))
    with pytest.raises(UserError, match="expected a folder"):
        photos.list_photos("ftp5://x/y")


@pytest.mark.parametrize(("written", "expected"), [
    ("a/b.jpg", "a/b.jpg"),
    ("./a/b.jpg", "a/b.jpg"),
    (" a\\b.jpg ", "a/b.jpg"),
    ("S\u0061\u0308rkka\u0308/1.jpg", "S\u00e4rkk\u00e4/1.jpg"),  # as a Mac writes it
    ("a/b/", "a/b"),
])  # fmt: skip
def test_normal_path(written, expected):
    assert photos.normal_path(written) == expected
