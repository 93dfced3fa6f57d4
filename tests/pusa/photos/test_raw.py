"""RAW and HEIC: upright pixels, the header's facts, and a reason where the extra is not installed."""

import datetime as dt
import io
import sys

import numpy as np
import pytest
from made_photos import LOCAL
from PIL import Image

from pusa import listing, photos
from pusa.errors import PhotoError

TAKEN = dt.datetime(2021, 5, 1, 12, 34, 56)


def dng(cfa, orientation=1):
    """A DNG of a camera that sees only grey: sensor values `cfa` (H, W) uint16."""
    tifffile = pytest.importorskip("tifffile")
    grey = (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)  # the identity, in fractions
    tags = [(271, "s", 0, "ACME", True), (272, "s", 0, "Raw One", True), (274, "H", 1, orientation, True),
            (306, "s", 0, f"{TAKEN:%Y:%m:%d %H:%M:%S}", True), (33421, "H", 2, (2, 2), True),
            (33422, "B", 4, bytes([0, 1, 1, 2]), True), (50706, "B", 4, bytes([1, 4, 0, 0]), True),
            (50708, "s", 0, "ACME Raw One", True), (50714, "H", 1, 0, True), (50717, "I", 1, 65535, True),
            (50721, "2i", 9, grey, True), (50778, "H", 1, 21, True), (50728, "2I", 3, (1,) * 6, True)]  # fmt: skip
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, cfa, photometric=32803, extratags=tags, metadata=None, software=False)
    return buffer.getvalue()


def sensor():
    """80 x 120, its upper half bright."""
    cfa = np.full((80, 120), 20000, np.uint16)
    cfa[:40] = 50000
    return cfa


@pytest.mark.parametrize(("orientation", "size", "bright"), [
    (1, (120, 80), np.s_[:30]),
    (3, (120, 80), np.s_[-30:]),
    (6, (80, 120), np.s_[:, -30:]),  # turned clockwise: what was above is on the right
    (8, (80, 120), np.s_[:, :30]),
])  # fmt: skip
def test_raw_is_developed_upright(tmp_path, orientation, size, bright):
    pytest.importorskip("rawpy")
    content = dng(sensor(), orientation)
    rgb = photos.decode(content, path="a/1.DNG")
    assert (rgb.shape, rgb.dtype) == ((size[1], size[0], 3), np.uint8)
    assert rgb[bright].mean() > rgb.mean() + 20
    (tmp_path / "1.dng").write_bytes(content)
    header = photos.read_header(LOCAL, str(tmp_path / "1.dng"))
    assert (header.width, header.height) == size
    assert (header.taken_at, header.camera) == (TAKEN, "ACME Raw One")


def test_heic(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0132] = "2021:05:01 12:34:56"
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32] = (200, 30, 30)
    Image.fromarray(pixels).save(tmp_path / "1.heic", quality=95, exif=exif)
    rgb = photos.decode((tmp_path / "1.heic").read_bytes())
    assert rgb.shape == (64, 96, 3)
    assert np.abs(rgb.astype(int) - pixels).mean() < 6
    header = photos.read_header(LOCAL, str(tmp_path / "1.heic"))
    assert (header.width, header.height, header.taken_at) == (96, 64, TAKEN)


@pytest.mark.parametrize(("module", "name", "content", "message"), [
    ("rawpy", "1.nef", b"II*\0....", "RAW photo needs rawpy.*uv sync --extra raw"),
    ("pillow_heif", "1.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC photo needs pillow-heif.*uv sync --extra raw"),
])  # fmt: skip
def test_without_the_extra_the_reason_says_what_to_install(tmp_path, monkeypatch, module, name, content, message):
    monkeypatch.setitem(sys.modules, module, None)  # an import of it fails
    (tmp_path / name).write_bytes(content)
    assert [f.path for f in listing.list_photos(str(tmp_path)).files] == [name]
    with pytest.raises(PhotoError, match=message):
        photos.read_header(LOCAL, str(tmp_path / name))
    with pytest.raises(PhotoError, match=message):
        photos.decode(content, path=name)


@pytest.mark.parametrize(
    ("name", "content"), [("1.cr2", b"no photo"), ("1.arw", b""), ("1.heic", b"\0\0\0\x18ftypheic")]
)
def test_damaged_ones_have_a_reason(tmp_path, name, content):
    pytest.importorskip("rawpy")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PhotoError):
        photos.read_header(LOCAL, str(tmp_path / name))
    with pytest.raises(PhotoError):
        photos.decode(content, path=name)


def test_a_large_raw_is_refused_from_its_header(tmp_path):
    pytest.importorskip("rawpy")
    with pytest.raises(PhotoError, match="more than the limit"):
        photos.decode(dng(sensor()), max_pixels=9000, path="1.dng")
