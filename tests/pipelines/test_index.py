"""The index of small archives with everything that goes wrong in large ones."""

import datetime as dt
import io
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import fs

from pipelines.index import IndexConfig, assign_shards, index
from pusa import storage
from pusa.errors import UserError
from pusa.records import PHOTOS, Run, photo_id
from pusa.sequences import SequenceConfig

NOON = dt.datetime(2021, 5, 1, 12)


def photo(minutes=None, model="X", size=(4, 3)):
    """A JPEG of `size` (width, height), taken some minutes after noon, or without EXIF."""
    exif = Image.Exif()
    if minutes is not None:
        exif[0x110] = model
        exif.get_ifd(0x8769)[0x9003] = (NOON + dt.timedelta(minutes=minutes)).strftime("%Y:%m:%d %H:%M:%S")
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def archive_of(folder, files):
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return str(folder)


def bomb():
    content = photo(0)
    frame = content.index(b"\xff\xc0") + 5
    return content[:frame] + struct.pack(">HH", 15000, 20000) + content[frame + 4 :]


@pytest.fixture
def archive(tmp_path):
    return archive_of(tmp_path / "archive", {
        "a/2.jpg": photo(1),
        "a/1.jpg": photo(5),
        "a/3.jpg": photo(None),
        "b/1.JPG": photo(200, "Y", (3, 4)),
        "b/empty.jpg": b"",
        "b/empty2.jpg": b"",
        "b/text.jpg": b"hello",
        "b/bomb.jpg": bomb(),
        "b/clip.mov": b"x",
        "c/same.jpg": photo(1),  # the content of a/2.jpg
    })  # fmt: skip


def test_rows(tmp_path, archive):
    index(archive, str(tmp_path / "run"))
    table = Run(str(tmp_path / "run")).read("index")
    assert table.schema.equals(PHOTOS)
    rows = {row["path"]: row for row in table.to_pylist()}
    assert len(rows) == table.num_rows == 9
    first, stat = rows["b/1.JPG"], os.stat(f"{archive}/b/1.JPG")
    assert {k: v for k, v in first.items() if v is not None} == {
        "photo_id": photo_id("b/1.JPG", stat.st_size, stat.st_mtime_ns), "path": "b/1.JPG", "shard": 0,
        "sequence_id": "b", "taken_at": dt.datetime(2021, 5, 1, 15, 20), "camera": "Y", "width": 3, "height": 4,
        "status": "new",
    }  # fmt: skip
    # Errors stay rows, with the reason, no instances and a sequence of their own folder.
    errors = {path: row["error"] for path, row in rows.items() if row["status"] == "error"}
    assert set(errors) == {"b/empty.jpg", "b/empty2.jpg", "b/text.jpg", "b/bomb.jpg"}
    assert "0 bytes" in errors["b/empty.jpg"]
    assert "20000 x 15000" in errors["b/bomb.jpg"]
    assert all(rows[path]["instances"] == [] and rows[path]["sequence_id"] == "b" for path in errors)
    # In a sequence by time, the one without a time last.
    assert [p for p in table.column("path").to_pylist() if p.startswith("a/")] == ["a/2.jpg", "a/1.jpg", "a/3.jpg"]
    # Files of the same content are two rows.
    assert rows["a/2.jpg"]["photo_id"] != rows["c/same.jpg"]["photo_id"]


def test_summary(archive):
    summary = index(archive)
    assert (summary.photos, summary.readable, summary.without_time, summary.shards) == (9, 5, 1, 1)
    assert summary.sequence_sizes == {"a": 3, "b": 5, "c": 1}
    assert summary.cameras == {"X": 3, "Y": 1, "unknown": 1}
    assert summary.by_date == {NOON.date(): 4}
    assert summary.other_files == {"mov": 1}
    assert sorted(summary.errors.values()) == [1, 1, 2]
    assert summary.errors["the file is empty (0 bytes)"] == 2
    assert summary.error_examples["the file is empty (0 bytes)"] == "b/empty.jpg"
    assert summary.notices == []


def test_the_same_archive_gives_the_same_run(tmp_path, archive):
    config = IndexConfig(photos_per_shard=3)
    index(archive, str(tmp_path / "one"), config)
    index(archive, str(tmp_path / "two"), config.model_copy(update={"threads": 1}))
    index(archive, str(tmp_path / "two"), config)  # again, over the first
    one, two = Run(str(tmp_path / "one")), Run(str(tmp_path / "two"))
    assert one.read("index").equals(two.read("index"))
    assert len(two.files("index")) == 3


def test_a_second_index_leaves_nothing_of_the_first(tmp_path, archive):
    run = Run(str(tmp_path / "run"))
    index(archive, run.uri, IndexConfig(photos_per_shard=1))
    assert len(run.files("index")) == 3
    index(archive, run.uri)
    assert len(run.files("index")) == 1
    assert run.read("index").num_rows == 9


def test_shards_hold_whole_sequences(tmp_path, archive):
    index(archive, str(tmp_path / "run"), IndexConfig(photos_per_shard=4))
    table = Run(str(tmp_path / "run")).read("index").to_pylist()
    assert {(r["sequence_id"], r["shard"]) for r in table} == {("a", 0), ("b", 1), ("c", 2)}


@given(st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(1, 30), min_size=1), st.integers(1, 50))
def test_no_shard_is_larger_than_it_must_be(sizes, limit):
    shards = assign_shards(sizes, limit)
    members = [[s for s in sorted(sizes) if shards[s] == k] for k in range(max(shards.values()) + 1)]
    assert [s for shard in members for s in shard] == sorted(sizes)
    for k, shard in enumerate(members):
        assert len(shard) == 1 or sum(sizes[s] for s in shard) <= limit
        if k:  # the first of a shard would not have fitted into the one before
            assert sum(sizes[s] for s in members[k - 1]) + sizes[shard[0]] > limit


def test_clock_shift_comes_before_sequences_and_dates(tmp_path):
    archive = archive_of(tmp_path / "p", {"a/1.jpg": photo(0), "b/1.jpg": photo(0), "c/1.jpg": photo(0)})
    (tmp_path / "d.csv").write_text(
        "deployment_id,folder,clock_shift,start,end\nA,a,-13h,2021-05-01,\nB,b,30min,2021-05-01,2021-05-01\nD,d,,,\n"
    )
    config = IndexConfig(sequences=SequenceConfig(by="gap"), deployments=str(tmp_path / "d.csv"))
    summary = index(archive, str(tmp_path / "run"), config)
    run = Run(str(tmp_path / "run"))
    rows = run.read("index").to_pylist()
    assert {(r["path"], r["deployment_id"], r["sequence_id"]) for r in rows} == {
        ("a/1.jpg", "A", "A@2021-04-30T23-00-00"),
        ("b/1.jpg", "B", "B@2021-05-01T12-30-00"),
        ("c/1.jpg", None, "c@2021-05-01T12-00-00"),
    }
    assert summary.by_date == {dt.date(2021, 4, 30): 1, dt.date(2021, 5, 1): 2}
    assert summary.deployments == {"A": 1, "B": 1}
    assert run.read("deployments").column("deployment_id").to_pylist() == ["A", "B", "D"]
    outside, homeless, unused = summary.notices
    assert outside.startswith("1 photos are from outside")
    assert homeless.startswith("1 photos lie in no folder")
    assert unused == "1 deployments have no photos (D)."


def test_notices(tmp_path):
    minutes_to_1980 = -(NOON - dt.datetime(1980, 1, 1)).total_seconds() / 60
    archive = archive_of(tmp_path, {
        "1.jpg": photo(minutes_to_1980), "2.jpg": photo(9e6 * 3), "3.jpg": photo(0), "4.jpg": photo(None), "5.jpg": b"",
    })  # fmt: skip
    config = IndexConfig(sequences=SequenceConfig(by="gap", gap="36500d"), long_sequence=2)
    timeless, wrong, long = index(archive, config=config).notices
    assert timeless.startswith("1 photos without a time")  # the unreadable one is counted elsewhere
    assert wrong.startswith("2 photos are from before 1990 or the future (1.jpg: 1980-01-01)")
    assert long.startswith("1 long sequences (.@1980-01-01T00-00-00 with 3 photos)")


def test_sequences_from_csv(tmp_path, archive):
    (tmp_path / "s.csv").write_text("path,sequence_id\na/1.jpg,s\nc/same.jpg,s\nnone.jpg,s\n")
    config = IndexConfig(sequences=SequenceConfig(by="csv", csv=str(tmp_path / "s.csv")))
    summary = index(archive, config=config)
    assert summary.sequence_sizes["s"] == 2
    assert len(summary.notices) == 2


def test_the_run_may_lie_in_the_archive(tmp_path, archive):
    picture = archive_of(tmp_path / "archive/run/pictures", {"match.png": photo(0)})
    assert index(archive, f"{archive}/run").photos == 9
    assert index(archive, f"{archive}/ru").photos == 10  # another folder, of which only the beginning agrees
    with pytest.raises(UserError, match="among the photos"):
        index(picture, picture)


@pytest.mark.parametrize(("files", "message"), [
    ({}, "no photos in .*Expected jpg"),
    ({"a/x.mov": b"", "b.txt": b""}, r"no photos in .* \(2 other files\)"),
    ({"._1.jpg": photo()}, "no photos in"),
])  # fmt: skip
def test_archives_without_photos(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        index(archive_of(tmp_path, files))


def test_no_archive_and_a_file_for_one(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        index(str(tmp_path / "none"), str(tmp_path / "run"))
    archive_of(tmp_path, {"1.jpg": photo()})
    with pytest.raises(UserError, match="is a file"):
        index(str(tmp_path / "1.jpg"), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_deployments_that_fit_no_photo_stop_before_anything_is_written(tmp_path, archive):
    (tmp_path / "d.csv").write_text("deployment_id,folder\nD1,photos/a\n")
    with pytest.raises(UserError, match=r"the file has photos/a, the archive a/1\.jpg"):
        index(archive, str(tmp_path / "run"), IndexConfig(deployments=str(tmp_path / "d.csv")))
    assert not (tmp_path / "run").exists()


def test_another_file_system_gives_the_same_rows(tmp_path, archive, monkeypatch):
    index(archive, str(tmp_path / "here"))
    bucket = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    real = storage.locate
    monkeypatch.setattr(storage, "locate", lambda uri: (bucket, uri[5:]) if uri.startswith("s3://") else real(uri))
    index("s3://archive", "s3://there")
    assert Run("s3://there").read("index").equals(Run(str(tmp_path / "here")).read("index"))


def test_progress_counts_to_the_end(archive):
    calls = []
    index(archive, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 9) for n in range(1, 10)]
