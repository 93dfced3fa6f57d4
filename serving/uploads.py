"""Photos out of a request: files of a form, and the files of ZIPs among them.

Nothing of a request becomes a path of this machine: a photo lies under a number, and its name is only a text.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fastapi import UploadFile

from pusa.listing import EXTENSIONS, NOT_PHOTOS
from serving.problems import Problem
from serving.settings import Limits

CHUNK = 1 << 20
RATIO = 200  # a photo hardly shrinks in a ZIP; what grows more is no photo
LONGEST = 300  # characters of a name


@dataclass(frozen=True)
class Received:
    """A photo's file: the name it came with, and where it lies now."""

    name: str
    file: Path
    size: int
    digest: str  # of the content


def receive(uploads: Iterable[UploadFile], folder: Path, limits: Limits) -> tuple[list[Received], list[str]]:
    """Writes all photos into a new `folder`; returns them, and names of files that are no photos.

    Raises Problem, with its reason, for what is not taken: too many or too large photos, no photo, a damaged ZIP, one
    that is a bomb or whose names lead out of it.
    """
    folder.mkdir(parents=True)
    received: list[Received] = []
    others: list[str] = []
    left = limits.body_mb << 20  # a ZIP may not unfold to more than a request may bring
    taken: set[str] = set()
    for name, file in _files(uploads, limits, others):
        if len(received) == limits.photos:
            raise Problem(413, "Too many photos", f"More than {limits.photos} photos. Send them in several requests.")
        most = min(limits.photo_mb << 20, left)
        with _damage(name) if isinstance(file, zipfile.ZipExtFile) else contextlib.nullcontext():
            size, digest = _write(file, folder / f"{len(received):06d}", most, name, limits)
        left -= size
        received.append(Received(_unique(name, taken), folder / f"{len(received):06d}", size, digest))
    if not received:
        found = f" (found: {', '.join(others[:3])})" if others else ""
        raise Problem(422, "No photos", f"Expected jpg, png, tif or webp files, or a ZIP of them{found}.")
    return received, others


def _files(uploads: Iterable[UploadFile], limits: Limits, others: list[str]) -> Iterator[tuple[str, IO[bytes]]]:
    for upload in uploads:
        name = clean(upload.filename or "photo.jpg")
        start = upload.file.read(4)
        upload.file.seek(0)
        if start in (b"PK\x03\x04", b"PK\x05\x06"):
            yield from _of_zip(upload.file, name, limits, others)
        elif _is_photo(name):
            yield name, upload.file
        else:
            others.append(name)


def _of_zip(file: IO[bytes], zip_name: str, limits: Limits, others: list[str]) -> Iterator[tuple[str, IO[bytes]]]:
    refuse = f"The ZIP {zip_name} is refused"
    with _damage(zip_name), zipfile.ZipFile(file) as z:
        members = z.infolist()
        if len(members) > 10 * limits.photos:
            raise Problem(413, "Too many files", f"{refuse}: it has {len(members)} files.")
        for member in members:
            _check(member, refuse)
        for member in members:
            name = clean(member.filename)
            if member.is_dir() or _hidden(name):
                continue
            if not _is_photo(name):
                others.append(name)
                continue
            with z.open(member) as content:
                yield name, content


@contextlib.contextmanager
def _damage(name: str) -> Iterator[None]:
    """What zipfile and its decompressors raise for damaged files becomes a Problem."""
    try:
        yield
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError,
            RuntimeError, ValueError, OSError) as e:  # fmt: skip
        raise Problem(422, "Damaged ZIP", f"{name} is refused: it cannot be read ({e}).") from e


def _check(member: zipfile.ZipInfo, refuse: str) -> None:
    name = member.filename.replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/") or ":" in name.split("/")[0] or "\0" in member.orig_filename:
        raise Problem(422, "Unsafe ZIP", f"{refuse}: the name {clean(member.filename)!r} leads out of it.")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise Problem(422, "Unsafe ZIP", f"{refuse}: {clean(member.filename)!r} is a link.")
    if member.flag_bits & 1:
        raise Problem(422, "Encrypted ZIP", f"{refuse}: it is encrypted.")
    if member.file_size > RATIO * max(member.compress_size, 1024):
        raise Problem(422, "Unsafe ZIP", f"{refuse}: {clean(member.filename)!r} unfolds to {member.file_size} bytes.")


def _write(file: IO[bytes], path: Path, most: int, name: str, limits: Limits) -> tuple[int, str]:
    """Copies at most so many bytes: what a ZIP says of its sizes is not believed."""
    size, digest = 0, hashlib.blake2b(digest_size=16)
    with path.open("wb") as out:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            if size > most:
                limit = f"{limits.photo_mb} MB a photo, {limits.body_mb} MB a request"
                raise Problem(413, "Too large", f"{name} is larger than what is taken ({limit}).")
            digest.update(chunk)
            out.write(chunk)
    return size, digest.hexdigest()


def clean(name: str) -> str:
    """A name as a text to show: forward slashes, no control characters, no steps upwards."""
    text = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())
    text = "".join(c for c in text.replace("\\", "/") if unicodedata.category(c)[0] != "C")
    parts = [part for part in text.split("/") if part.strip() and part not in (".", "..")]
    return "/".join(parts)[-LONGEST:] or "unnamed"


def _is_photo(name: str) -> bool:
    return name.rpartition(".")[2].lower() in EXTENSIONS


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part in NOT_PHOTOS for part in name.split("/"))


def _unique(name: str, taken: set[str]) -> str:
    stem, dot, extension = name.rpartition(".")
    found, number = name, 2
    while found in taken:
        found, number = f"{stem} ({number}){dot}{extension}", number + 1
    taken.add(found)
    return found
