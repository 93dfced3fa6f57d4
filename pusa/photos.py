"""Photos: reading their headers, decoding them to upright RGB. `listing` finds them in an archive.

Everywhere in Pusa a photo is an array H x W x 3, uint8, RGB, upright: the EXIF orientation is applied once, here,
before any box is written. Colour profiles are not applied; transparent pixels become black, as in SealID's photos.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import re
import warnings
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image
from pyarrow import fs as pafs

from pusa import raw, storage
from pusa.errors import PhotoError

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")
MAX_PIXELS = 200_000_000  # larger ones are refused from the header: 200 megapixels are 600 MB decoded

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is fixed at 179 megapixels and warns from 89 on; ours is _open's
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # a broken EXIF is no news worth a line a photo

# ---------------------------------------------------------------------------------------------------- headers


@dataclass(frozen=True)
class Header:
    """What a photo says of itself, without its pixels.

    `width`, `height`: of the upright photo. `taken_at`: local time of the camera's clock, no time zone. `latitude`,
    `longitude`: WGS84 degrees. `orientation`: EXIF 1 to 8. None where the photo does not say.
    """

    width: int
    height: int
    taken_at: dt.datetime | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    orientation: int = 1


def read_header(filesystem: pafs.FileSystem, path: str, max_pixels: int = MAX_PIXELS) -> Header:
    """Size, time, camera and place of one photo; reads the first 64 KiB or so (of RAW all) and never decodes pixels.

    A broken EXIF counts as none. Raises PhotoError where the file cannot be read, is no photo or too large.
    """
    try:
        # Pillow reads in small steps; each would be a request on object storage.
        with (
            storage.answering(),
            storage.open_file(filesystem, path) as file,
            io.BufferedReader(file, 65536) as steps,  # type: ignore[type-var]
        ):
            return _raw_header(steps.read(), max_pixels) if raw.is_raw(path) else _header(_open(steps, max_pixels))
    except FileNotFoundError as e:
        raise PhotoError("cannot be opened: a broken link, a vanished file, or a name that is not UTF-8") from e
    except OSError as e:
        raise PhotoError(f"cannot be read: {e}") from e


def _open(file: Any, max_pixels: int) -> Image.Image:
    """The photo with its header read. Raises PhotoError for what is no photo, or too large."""
    start = file.read(16)
    file.seek(0)
    if not start:
        raise PhotoError("the file is empty (0 bytes)")
    formats: tuple[str, ...] = FORMATS
    if raw.is_heic(start):
        raw.open_heic()
        formats = ("HEIF",)
    try:
        im = Image.open(file, formats=formats)
    except Image.UnidentifiedImageError as e:
        raise PhotoError(f"not a JPEG, PNG, TIFF or WebP image (it begins with {start!r})") from e
    except OSError:  # of the storage, or of a file cut within its header
        raise
    except Exception as e:  # what Pillow's readers raise for damaged headers is not limited to a few types
        raise PhotoError(f"the header is damaged ({type(e).__name__}: {e})") from e
    _check_size(im.width, im.height, max_pixels)
    return im


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise PhotoError(f"{width} x {height} pixels are more than the limit of {max_pixels / 1e6:.0f} megapixels")


def _raw_header(content: bytes, max_pixels: int) -> Header:
    if not content:
        raise PhotoError("the file is empty (0 bytes)")
    found = raw.header(content)
    _check_size(found.width, found.height, max_pixels)
    header = _described(found.exif, found.width, found.height, 1)
    return header if header.taken_at else replace(header, taken_at=found.taken_at)


def _header(im: Image.Image) -> Header:
    exif = _exif(im)
    orientation = _orientation(exif)
    # Pillow turns the size of a TIFF itself when it opens it, and its pixels when it loads them.
    turned = orientation in _TRANSPOSED and im.format != "TIFF"
    width, height = (im.height, im.width) if turned else im.size
    return _described(exif, width, height, orientation)


def _described(exif: Image.Exif, width: int, height: int, orientation: int) -> Header:
    detail, gps = _ifd(exif, ExifTags.IFD.Exif), _ifd(exif, ExifTags.IFD.GPSInfo)
    latitude = _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), 90)
    longitude = _degrees(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), 180)
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):  # 0, 0: a receiver without a fix
        latitude = longitude = None
    return Header(width, height, _taken_at(exif, detail), _camera(exif, detail), latitude, longitude, orientation)


def _exif(im: Image.Image) -> Image.Exif:
    """EXIF as far as it can be read. Not by im.getexif(): it decodes a PNG to look for EXIF behind the pixels."""
    exif = Image.Exif()
    with contextlib.suppress(Exception):  # damaged EXIF fails in many ways, none of which concerns the photo
        if im.format == "TIFF":
            return im.getexif()
        exif.load(im.info.get("exif", b""))
    return exif


def _ifd(exif: Image.Exif, tag: int) -> dict[int, Any]:
    with contextlib.suppress(Exception):
        return exif.get_ifd(tag)
    return {}


def _get(tags: Any, tag: int) -> Any:
    with contextlib.suppress(Exception):  # values are decoded on access
        return tags.get(tag)
    return None


def _orientation(exif: Image.Exif) -> int:
    value = _get(exif, ExifTags.Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return " ".join(value.replace("\0", " ").split()) if isinstance(value, str) else ""


def _taken_at(exif: Image.Exif, detail: dict[int, Any]) -> dt.datetime | None:
    """DateTimeOriginal, else DateTimeDigitized, else DateTime; with the fraction of a second that orders bursts."""
    base = ExifTags.Base
    for tags, tag, fraction in (
        (detail, base.DateTimeOriginal, base.SubsecTimeOriginal),
        (detail, base.DateTimeDigitized, base.SubsecTimeDigitized),
        (exif, base.DateTime, base.SubsecTime),
    ):
        match = re.match(r"(\d{4})[:/-](\d\d?)[:/-](\d\d?)[ T](\d\d?):(\d\d):(\d\d)", _text(_get(tags, tag)))
        if not match:
            continue
        digits = _text(_get(detail, fraction))
        milliseconds = int(digits[:3].ljust(3, "0")) if digits.isdecimal() else 0
        with contextlib.suppress(ValueError):  # 0000:00:00 and the like
            return dt.datetime(*map(int, match.groups()), microsecond=1000 * milliseconds)  # type: ignore[misc,arg-type]
    return None


def _camera(exif: Image.Exif, detail: dict[int, Any]) -> str | None:
    """Make, model and, where the photo has it, serial number of the body: two cameras of one kind are two cameras."""
    make, model = _text(_get(exif, ExifTags.Base.Make)), _text(_get(exif, ExifTags.Base.Model))
    serial = _text(_get(detail, ExifTags.Base.BodySerialNumber))
    name = model if make and model.lower().startswith(make.split()[0].lower()) else f"{make} {model}".strip()
    return f"{name} ({serial})".strip() if serial else name or None


def _degrees(value: Any, ref: Any, limit: float) -> float | None:
    with contextlib.suppress(Exception):  # rationals of a denominator 0, too few values, text
        degrees, minutes, seconds = (float(v) for v in value)
        result = degrees + minutes / 60 + seconds / 3600
        sign = {"N": 1, "E": 1, "S": -1, "W": -1}[_text(ref)[:1].upper()]
        return sign * result if 0 <= result <= limit else None  # false for nan, too
    return None


# ---------------------------------------------------------------------------------------------------- pixels

_FLIP = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # cv2.flip codes that turn an EXIF orientation upright ...
_TRANSPOSED = (5, 6, 7, 8)  # ... after rows and columns of these have changed places


def decode(content: bytes, max_pixels: int = MAX_PIXELS, path: str = "") -> np.ndarray:
    """Decodes a photo (JPEG, PNG, TIFF, WebP; grey, CMYK, palette, alpha, 16-bit; with the extra [raw] HEIC, and RAW
    where `path` has the extension of one) to H x W x 3 uint8, RGB, upright.

    16-bit values are scaled by the range of the type (65535 to 255), not by their own. Of several pictures in one file
    the first is taken. Raises PhotoError for empty, truncated, damaged, foreign and too large files.
    """
    try:
        if raw.is_raw(path):
            _raw_header(content, max_pixels)
            return raw.pixels(content)
        im = _open(io.BytesIO(content), max_pixels)
        orientation = _orientation(_exif(im))
        if im.format == "TIFF":
            orientation = 1  # Pillow turns the pixels of TIFFs itself
        rgb = None
        if im.format in ("JPEG", "MPO") and im.mode in ("RGB", "L"):
            # 1.5 times as fast as Pillow. None for truncated files, and some that only look odd: then Pillow decides.
            rgb = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if rgb is None:
            rgb = _rgb(im)
        if orientation in _TRANSPOSED:
            rgb = cv2.transpose(rgb)
        return cv2.flip(rgb, _FLIP[orientation]) if orientation in _FLIP else rgb
    except (PhotoError, MemoryError):
        raise
    except Exception as e:  # what Pillow's readers raise for damaged pixels is not limited to a few types
        raise PhotoError(f"damaged or truncated: {e or type(e).__name__}") from e


def _rgb(im: Image.Image) -> np.ndarray:
    """The pixels of a Pillow image as H x W x 3 uint8, RGB."""
    if im.mode.startswith("I;16"):
        grey = ((np.asarray(im).astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if im.mode in ("I", "F"):
        raise PhotoError("32-bit or signed pixel values have no fixed range: save the photo with 8 or 16 bits")
    if im.has_transparency_data:
        rgba = im.convert("RGBA")
        im = Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba)
    return np.array(im.convert("RGB"))


def encode_jpeg(rgb: np.ndarray, quality: int = 92) -> bytes:
    """H x W x 3 uint8 RGB as a JPEG."""
    return cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def decode_jpeg(content: bytes) -> np.ndarray:
    """A JPEG written by `encode_jpeg` as H x W x 3 uint8 RGB."""
    return _imdecode(content, cv2.IMREAD_COLOR_RGB)


def encode_mask_png(mask: np.ndarray) -> bytes:
    """A mask, H x W bool, as a 1-bit PNG: white = true."""
    return cv2.imencode(".png", mask.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()


def decode_mask_png(content: bytes) -> np.ndarray:
    """A PNG written by `encode_mask_png` (or any other: half-way to white and more is true) as H x W bool."""
    return _imdecode(content, cv2.IMREAD_GRAYSCALE) >= 128


def _imdecode(content: bytes, flags: int) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if pixels is None:
        raise PhotoError("a stored picture is damaged")
    return pixels
