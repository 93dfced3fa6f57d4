"""Local folders and object storage behind one interface: a path, `s3://...` or `gs://...` becomes (file system,
path).
"""

from __future__ import annotations

import os

import pyarrow as pa
from pyarrow import fs as pafs

from pusa.errors import UserError


def locate(uri: str | os.PathLike[str]) -> tuple[pafs.FileSystem, str]:
    """The pyarrow file system of `uri` and the path in it. Raises UserError for an unknown scheme."""
    text = os.fspath(uri)
    if "://" not in text:
        return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(text))
    try:
        filesystem, path = pafs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, ValueError) as e:
        raise UserError(f"Cannot open {text}: expected a folder, s3://... or gs://... ({e}).") from e
    return filesystem, path


def exists(filesystem: pafs.FileSystem, path: str) -> bool:
    return filesystem.get_file_info(path).type != pafs.FileType.NotFound


def read_bytes(filesystem: pafs.FileSystem, path: str) -> bytes:
    """The whole content of one file. Raises OSError."""
    with filesystem.open_input_file(path) as f:
        return f.read()


def write_bytes(filesystem: pafs.FileSystem, path: str, content: bytes) -> None:
    """Writes a file so that readers see all of it or nothing: by rename locally, by one PUT on object storage."""
    filesystem.create_dir(path.rsplit("/", 1)[0], recursive=True)
    local = isinstance(filesystem, pafs.LocalFileSystem)
    target = f"{path}.{os.getpid()}.tmp" if local else path
    with filesystem.open_output_stream(target) as f:
        f.write(content)
    if local:
        os.replace(target, path)
