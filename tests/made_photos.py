"""Photos made for tests."""

import io
import struct
import zlib

import numpy as np
from PIL import Image
from pyarrow import fs

from pusa import photos

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
