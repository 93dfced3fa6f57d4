"""What is taken out of a request, and what is refused."""

from __future__ import annotations

import io
import stat
import struct
import zipfile

import pytest
from fastapi import UploadFile

from serving.problems import Problem
from serving.settings import Limits
from serving.uploads import clean, receive

LIMITS = Limits(photos=3, photo_mb=1, body_mb=2)


def upload(name: str, content: bytes) -> UploadFile:
    return UploadFile(io.BytesIO(content), filename=name)


def zipped(*members: tuple[str, bytes], kind: int = zipfile.ZIP_DEFLATED, mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as z:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, kind
            z.writestr(info, content)
    return buffer.getvalue()


def lying(size: int) -> bytes:
    """A ZIP whose member is 1.5 MB, and says that it has `size` bytes."""
    content = bytearray(zipped(("a.jpg", bytes(range(256)) * 6000), kind=zipfile.ZIP_STORED))
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", size)
    return bytes(content)


def encrypted() -> bytes:
    content = bytearray(zipped(("a.jpg", b"abc")))
    for magic, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + flag] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("uploads", "names", "others"),
    [
        ([("a.jpg", b"1"), ("b.PNG", b"2")], ["a.jpg", "b.PNG"], []),  # as they come
        ([("a.jpg", b"1"), ("a.jpg", b"2")], ["a.jpg", "a (2).jpg"], []),  # two of one name
        ([("a.jpg", b"1"), ("notes.txt", b"2")], ["a.jpg"], ["notes.txt"]),  # what is no photo is named
        ([("../../etc/a.jpg", b"1")], ["etc/a.jpg"], []),  # a name is a text
        ([("x.zip", zipped(("f/a.jpg", b"1"), ("f/", b""), ("f/._a.jpg", b""), ("__MACOSX/a.jpg", b"")))],
         ["f/a.jpg"], []),  # folders stay in the name; what a Mac adds is no photo
        ([("photos.jpg", zipped(("a.jpg", b"1")))], ["a.jpg"], []),  # a ZIP is known by its content
    ],
)  # fmt: skip
def test_taken(tmp_path, uploads, names, others):
    received, found = receive([upload(*u) for u in uploads], tmp_path / "new", LIMITS)
    assert [r.name for r in received] == names
    assert found == others
    assert {f.name for f in (tmp_path / "new").iterdir()} == {f"{i:06d}" for i in range(len(names))}


@pytest.mark.parametrize(
    ("uploads", "status", "reason"),
    [
        ([("a.txt", b"1")], 422, "Expected jpg"),  # no photo
        ([("a.zip", zipped(("a.txt", b"1")))], 422, "found: a.txt"),
        ([(f"{i}.jpg", b"1") for i in range(4)], 413, "More than 3 photos"),
        ([("a.jpg", bytes(2 << 20))], 413, "1 MB a photo"),
        ([(f"{i}.jpg", bytes(900_000)) for i in range(3)], 413, "2 MB a request"),
        ([("a.zip", zipped(("../a.jpg", b"1")))], 422, "leads out of it"),
        ([("a.zip", zipped(("/etc/a.jpg", b"1")))], 422, "leads out of it"),
        ([("a.zip", zipped(("C:\\a.jpg", b"1")))], 422, "leads out of it"),
        ([("a.zip", zipped(("a.jpg", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777))], 422, "is a link"),
        ([("a.zip", zipped(("a.jpg", bytes(30 << 20))))], 422, "unfolds to"),  # a bomb
        ([("a.zip", encrypted())], 422, "encrypted"),
        ([("a.zip", zipped(("a.jpg", b"1"))[:-10])], 422, "Damaged|refused"),
        ([("a.zip", b"PK\x03\x04 and no more")], 422, "refused"),
        ([("a.zip", lying(100))], 422, "refused"),  # its sizes are not believed
    ],
)  # fmt: skip
def test_refused(tmp_path, uploads, status, reason):
    with pytest.raises(Problem, match=reason) as e:
        receive([upload(*u) for u in uploads], tmp_path / "new", LIMITS)
    assert e.value.status == status
    assert not (tmp_path / "a.jpg").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a\x00b\n.jpg", "ab.jpg"),
        ("..", "unnamed"),
        ("a\\b.jpg", "a/b.jpg"),
        ("\ud800.jpg", "?.jpg"),
        ("ä.jpg", "ä.jpg"),
    ],
)
def test_names_are_texts(name, text):
    assert clean(name) == text
