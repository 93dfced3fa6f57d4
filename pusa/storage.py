"""Local folders and object storage behind one interface: a path, `s3://...` or `gs://...` becomes (file system,
path).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import fs as pafs

from pusa.errors import UserError

# Requests to S3, the pause between them doubling, a minute and a half in all. Arrow's own six seconds are too few for a
# busy bucket; the SDK's "standard" strategy has a budget of what it repeats, and a bad hour uses that up.
ATTEMPTS = 12
# How Arrow tells of a server that is busy, down or cut off, in distinction to what it says of one object.
SILENCE = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|UNAVAILABLE|INTERNAL_FAILURE|THROTTL|TIMEOUT|HTTP status (429|5\d\d)"
)
PAUSES = [0.1 * 2**n for n in range(ATTEMPTS - 2)]  # seconds, between attempts of ours
FULL = (errno.ENOSPC, errno.EDQUOT)


def locate(uri: str | os.PathLike[str]) -> tuple[pafs.FileSystem, str]:
    """The pyarrow file system of `uri` and the path in it. Raises UserError for an unknown scheme."""
    text = os.fspath(uri)
    if "://" not in text:
        return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(text))
    try:
        filesystem, path = pafs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, ValueError) as e:
        raise UserError(f"Cannot open {text}: expected a folder, s3://... or gs://... ({e}).") from e
    if isinstance(filesystem, pafs.S3FileSystem):
        _, (settings,) = filesystem.__reduce__()  # all that the address said
        settings["allow_delayed_open"] = True  # a small file is one request, not three
        filesystem = pafs.S3FileSystem(**settings, retry_strategy=pafs.AwsDefaultS3RetryStrategy(ATTEMPTS))
    return filesystem, path


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Around reading and writing: where the storage itself fails (a full disk, a bucket that does not answer, after
    all attempts), UserError. What is wrong with one file alone stays an OSError."""
    try:
        yield
    except OSError as e:
        if e.errno in FULL:
            raise UserError(
                f"The disk is full ({e}). Make room and give the same command again: nothing is lost."
            ) from e
        if SILENCE.search(str(e)):
            raise UserError(
                f"The object storage does not answer ({e}). Give the same command again when it does: nothing is lost."
            ) from e
        raise


class _Patient(io.RawIOBase):
    """A file in a bucket that is read again where it was refused.

    Arrow asks again by itself, but for this: a refusal is some hundred bytes of XML, and where less was asked for, such
    as a small column, it does not know it for one.
    """

    def __init__(self, file: Any) -> None:
        super().__init__()
        self.file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        at = self.file.tell()
        for pause in PAUSES:
            try:
                return self.file.read(None if size < 0 else size)
            except OSError as e:
                if "flush response stream" not in str(e):
                    raise
            time.sleep(pause)
            self.file.seek(at)
        return self.file.read(None if size < 0 else size)

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self.file.close()
        super().close()


def open_file(filesystem: pafs.FileSystem, path: str) -> Any:
    """A file to be read, `read`, `seek` and `tell`. Raises OSError."""
    file = filesystem.open_input_file(path)
    return _Patient(file) if isinstance(filesystem, pafs.S3FileSystem) else file


def exists(filesystem: pafs.FileSystem, path: str) -> bool:
    with answering():
        return filesystem.get_file_info(path).type != pafs.FileType.NotFound


def read_bytes(filesystem: pafs.FileSystem, path: str) -> bytes:
    """The whole content of one file. Raises OSError, and UserError as `answering`."""
    with answering(), open_file(filesystem, path) as f:
        return f.read()


def write_bytes(filesystem: pafs.FileSystem, path: str, content: bytes) -> None:
    """Writes a file so that readers see all of it or nothing: by rename locally, by one PUT on object storage. Raises
    OSError, and UserError as `answering`."""
    local = isinstance(filesystem, pafs.LocalFileSystem)
    target = f"{path}.{os.getpid()}.tmp" if local else path
    with answering():
        if filesystem.type_name not in ("s3", "gcs"):  # in a bucket there are no folders to make
            filesystem.create_dir(path.rsplit("/", 1)[0], recursive=True)
        try:
            with filesystem.open_output_stream(target) as f:
                f.write(content)
        except OSError:
            if local:
                with contextlib.suppress(OSError):
                    os.remove(target)  # a part of it would keep a full disk full
            raise
    if local:
        os.replace(target, path)
