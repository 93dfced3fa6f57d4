"""RAW and HEIC photos, by the extra [raw]: LibRaw (rawpy) and libheif (pillow-heif). Without it they are rows with the
reason. What a RAW file is, is told by its extension: most are TIFFs inside, and would open as their own thumbnail.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pusa.errors import PhotoError

RAW = {"arw", "cr2", "cr3", "dng", "nef", "nrw", "orf", "pef", "raf", "rw2", "srw"}
HEIC = {"heic", "heif"}
INSTALL = "install it with `uv sync --extra raw`, and process the archive into a new folder"
_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")  # of files of the HEIF family


def is_raw(path: str) -> bool:
    return path.rpartition(".")[2].lower() in RAW


def is_heic(start: bytes) -> bool:
    """Whether a file that begins so (12 bytes) is HEIC or HEIF."""
    return start[4:8] == b"ftyp" and start[8:12] in _BRANDS


def open_heic() -> None:
    """Makes Pillow open HEIC. Raises PhotoError without the extra."""
    try:
        import pillow_heif
    except ImportError as e:
        raise PhotoError(f"a HEIC photo needs pillow-heif: {INSTALL}") from e
    pillow_heif.register_heif_opener()


@dataclass(frozen=True)
class RawHeader:
    """`width`, `height`: of the upright photo. `taken_at`: as LibRaw reads it, where the EXIF cannot be read."""

    width: int
    height: int
    exif: Image.Exif
    taken_at: Any


def header(content: bytes) -> RawHeader:
    """Size, EXIF and time of a RAW photo. Raises PhotoError for damaged files and without the extra."""
    with _open(content) as raw:
        sizes = raw.sizes
        turned = sizes.flip in (5, 6)
        width, height = (sizes.iheight, sizes.iwidth) if turned else (sizes.iwidth, sizes.iheight)
        exif = Image.Exif()
        if content[:4] in (b"II*\0", b"MM\0*"):  # the TIFFs among them; LibRaw knows the time of the others
            try:
                exif.load(b"Exif\0\0" + content)
            except Exception:  # damaged EXIF fails in many ways, none of which concerns the photo
                exif = Image.Exif()
        time = raw.other.timestamp
    return RawHeader(width, height, exif, time if time is not None and time.year > 1980 else None)


def pixels(content: bytes) -> np.ndarray:
    """A RAW photo developed as its camera would: H x W x 3 uint8, RGB, upright. Raises PhotoError as `header` does."""
    with _open(content) as raw:
        try:
            return raw.postprocess(use_camera_wb=True, output_bps=8)
        except Exception as e:  # LibRaw has an error of its own for each of its steps
            raise PhotoError(f"damaged or truncated RAW: {e or type(e).__name__}") from e


def _open(content: bytes) -> Any:
    try:
        import rawpy
    except ImportError as e:
        raise PhotoError(f"a RAW photo needs rawpy: {INSTALL}") from e
    try:
        return rawpy.imread(io.BytesIO(content))
    except Exception as e:
        raise PhotoError(f"not a RAW photo that LibRaw reads, or damaged: {e or type(e).__name__}") from e
