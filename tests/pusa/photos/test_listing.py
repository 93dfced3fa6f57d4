"""Listing of archives."""

import os

import pytest
from made_photos import LOCAL

from pusa import listing, photos
from pusa.errors import PhotoError, UserError


def archive_of(tmp_path, *paths):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"12345")
    return str(tmp_path)


def listed(archive):
    return [f.path for f in listing.list_photos(archive).files]


def test_listing(tmp_path):
    wanted = ["Z.JPG", "a b/ä.Jpeg", "a/1.png", "a/b/c/2.tif", "a/b/c/3.TIFF", "x.webp"]
    others = ["a/clip.mov", "notes.txt", "a/second.MOV", "README"]
    hidden = ["._Z.JPG", ".hidden/1.jpg", "a/.DS_Store", "a/@eaDir/1.jpg/SYNOPHOTO.jpg", "__MACOSX/a/1.jpg"]
    archive = archive_of(tmp_path, *wanted, *others, *hidden)
    found = listing.list_photos(archive)
    assert [f.path for f in found.files] == sorted(wanted)
    assert found.other == {"mov": 2, "txt": 1, "": 1}
    first = found.files[0]
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
    found = listing.list_photos(archive)
    assert [f.path for f in found.files] == ["a/1.jpg"]
    assert found.unreadable == ["secret"]


def test_other_file_systems_list_the_same(tmp_path):
    archive = archive_of(tmp_path, "b/2.JPG", "a.png", ".hid/3.jpg", "b/._2.JPG", "x.txt")
    remote = list(listing._walk_remote(LOCAL, archive))
    local = [*listing._walk_local(archive, listing.Listing([]))]
    assert sorted(remote, key=lambda f: f.path) == sorted(local, key=lambda f: f.path)


def test_no_such_archive(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        listing.list_photos(str(tmp_path / "none"))
    archive_of(tmp_path, "a.jpg")
    with pytest.raises(UserError, match="is a file"):
        listing.list_photos(str(tmp_path / "a.jpg"))
    with pytest.raises(UserError, match="expected a folder"):
        listing.list_photos("ftp5://x/y")


@pytest.mark.parametrize(("written", "expected"), [
    ("a/b.jpg", "a/b.jpg"),
    ("./a/b.jpg", "a/b.jpg"),
    (" a\\b.jpg ", "a/b.jpg"),
    ("S\u0061\u0308rkka\u0308/1.jpg", "S\u00e4rkk\u00e4/1.jpg"),  # as a Mac writes it
    ("a/b/", "a/b"),
])  # fmt: skip
def test_normal_path(written, expected):
    assert listing.normal_path(written) == expected
