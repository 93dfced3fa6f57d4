"""Photos in an archive: a local folder, s3://... or gs://..., with all folders in it."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from pyarrow import fs as pafs

from pusa import raw, storage
from pusa.errors import UserError

EXTENSIONS = {"jpg", "jpeg", "png", "tif", "tiff", "webp", *raw.HEIC, *raw.RAW}
NOT_PHOTOS = {"@eaDir", "$RECYCLE.BIN", "__MACOSX"}  # folders of thumbnails; skipped, as all that starts with "."


@dataclass(frozen=True)
class PhotoFile:
    """A file of the archive: `path` relative to it with forward slashes, `size` in bytes, `mtime_ns` since 1970."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Listing:
    """What lies in an archive: photos sorted by path, other files counted by extension, folders that cannot be read."""

    files: list[PhotoFile]
    other: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)


def normal_path(path: str) -> str:
    """The form in which paths from CSV and JSON files are compared with those of the archive.

    Forward slashes, no leading "./", Unicode NFC: a Mac writes "Särkkä" in other bytes than a spreadsheet does.
    """
    return unicodedata.normalize("NFC", path.strip().replace("\\", "/")).removeprefix("./").strip("/")


def list_photos(archive: str) -> Listing:
    """Lists the photos of an archive: a local folder, s3://... or gs://...

    Hidden files and folders (also AppleDouble "._x") are skipped. Raises UserError where there is no such folder.
    """
    filesystem, root = storage.locate(archive)
    try:
        info = filesystem.get_file_info(root)
    except OSError as e:
        raise UserError(f"Cannot reach the archive {archive}: {e}.") from e
    if info.type == pafs.FileType.File:
        raise UserError(f"{archive} is a file. Expected the folder that holds the photos.")
    if info.type == pafs.FileType.NotFound:
        raise UserError(f"There is no folder {archive}. Check the path of the archive.")
    listing = Listing([])
    local = isinstance(filesystem, pafs.LocalFileSystem)
    for file in _walk_local(root, listing) if local else _walk_remote(filesystem, root):
        extension = os.path.splitext(file.path)[1].lower().removeprefix(".")
        if extension in EXTENSIONS:
            listing.files.append(file)
        else:
            listing.other[extension] += 1
    listing.files.sort(key=lambda file: file.path)
    return listing


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in NOT_PHOTOS


def _walk_local(root: str, listing: Listing) -> Iterator[PhotoFile]:
    """All files below `root`. Not by pyarrow: it follows links in circles, and gives up on a name that is not UTF-8."""
    seen: set[str] = set()

    def failed(error: OSError) -> None:
        listing.unreadable.append(os.path.relpath(error.filename, root))

    for folder, folders, names in os.walk(root, onerror=failed, followlinks=True):
        folders[:] = [f for f in folders if not _hidden(f)]
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder that was already read
            folders.clear()
            continue
        seen.add(real)
        for name in names:
            if _hidden(name):
                continue
            full = os.path.join(folder, name)
            try:
                stat = os.stat(full)
            except OSError:  # a broken link: stays in the list, and becomes a row with an error
                stat = os.lstat(full)
            # A name that is not UTF-8 cannot be a string of a table; its escaped form becomes a row with an error.
            path = os.fsencode(os.path.relpath(full, root)).decode("utf-8", "backslashreplace")
            yield PhotoFile(path.replace(os.sep, "/"), stat.st_size, stat.st_mtime_ns)


def _walk_remote(filesystem: pafs.FileSystem, root: str) -> Iterator[PhotoFile]:
    for info in filesystem.get_file_info(pafs.FileSelector(root, recursive=True)):
        path = info.path[len(root) :].lstrip("/")
        if info.type == pafs.FileType.File and not any(_hidden(part) for part in path.split("/")):
            yield PhotoFile(path, info.size, info.mtime_ns or 0)
