"""Archives that grow, and runs that begin with what another one found: worked by hand, then on the real pipeline."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.basis import known_photos
from pipelines.index import IndexConfig, assign_shards, index
from pipelines.plan import explain, time_of, work_of
from pipelines.process import ProcessConfig, begin, process
from pipelines.reuse import FILE, Reuse, reusable
from pipelines.settle import settle, shards_of
from pusa import records
from pusa.config import load_config
from pusa.encounters import EncounterBuilder, EncounterConfig
from pusa.errors import UserError
from pusa.records import PHOTOS, Run
from pusa.sides.find import SideConfig, SideFinder
from pusa.stages import RESTS_ON, outdated

BY_GAP = IndexConfig(photos_per_shard=2, sequences={"by": "gap", "gap": "10min"})


def photo(path: Path, minute: int, seed: int = 0) -> None:
    """A photo of a few marks on grey, taken some minutes after noon."""
    rng = np.random.default_rng(seed)
    rgb = np.full((120, 160, 3), 120, np.uint8)
    for x, y in rng.integers(10, 100, (12, 2)):
        rgb[y : y + 12, x : x + 3] = rng.integers(0, 255, 3)
    exif = Image.Exif()
    exif[0x0132] = f"2024:05:01 12:{minute:02}:00"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, exif=exif)


# ------------------------------------------------------------------------------------------------ index


def places(run):
    return {r["path"]: (r["sequence_id"].rpartition("T")[2], r["shard"]) for r in run.read("index").to_pylist()}


def test_new_photos_join_sequences_and_old_ones_keep_their_shards(tmp_path):
    for minute in (20, 25, 50):
        photo(tmp_path / f"archive/{minute}.jpg", minute)
    archive, run = str(tmp_path / "archive"), Run(str(tmp_path / "run"))
    index(archive, run.uri, BY_GAP)
    assert places(run) == {"20.jpg": ("12-20-00", 0), "25.jpg": ("12-20-00", 0), "50.jpg": ("12-50-00", 1)}
    files = {file: run.fs.get_file_info(file).mtime_ns for file in run.files("index")}

    photo(tmp_path / "archive/55.jpg", 55)  # joins the second sequence
    photo(tmp_path / "archive/05.jpg", 5)  # a sequence of its own, whose name comes first
    found = index(archive, run.uri, BY_GAP, known=run.read("index"))
    assert (found.photos, found.new, found.changed_sequences) == (5, 2, 2)
    assert places(run) == {
        "20.jpg": ("12-20-00", 0), "25.jpg": ("12-20-00", 0), "50.jpg": ("12-50-00", 1), "55.jpg": ("12-50-00", 1),
        "05.jpg": ("12-05-00", 2),
    }  # fmt: skip
    assert run.fs.get_file_info(run.files("index")[0]).mtime_ns == files[run.files("index")[0]]

    photo(tmp_path / "archive/15.jpg", 15)  # comes before 20.jpg, and bridges the gap to 05.jpg
    found = index(archive, run.uri, BY_GAP, known=run.read("index"))
    assert (found.new, found.changed_sequences) == (1, 1)
    joined = {path: place for path, place in places(run).items() if path < "3"}
    assert joined == dict.fromkeys(("05.jpg", "15.jpg", "20.jpg", "25.jpg"), ("12-05-00", 2))
    assert not any(file.endswith("00000.parquet") for file in run.files("index"))  # nothing is left in that shard

    again = index(archive, run.uri, BY_GAP, known=run.read("index"))
    assert (again.new, again.changed_sequences) == (0, 0)


def test_what_is_gone_stays_and_what_was_replaced_does_not(tmp_path):
    for minute in (1, 2, 3):
        photo(tmp_path / f"archive/{minute}.jpg", minute)
    archive, run = str(tmp_path / "archive"), Run(str(tmp_path / "run"))
    index(archive, run.uri)
    before = {r["path"]: r["photo_id"] for r in run.read("index").to_pylist()}
    (tmp_path / "archive/1.jpg").unlink()
    photo(tmp_path / "archive/2.jpg", 2, seed=7)
    found = index(archive, run.uri, known=run.read("index"))
    after = {r["path"]: r["photo_id"] for r in run.read("index").to_pylist()}
    assert (after["1.jpg"], after["3.jpg"]) == (before["1.jpg"], before["3.jpg"])
    assert after["2.jpg"] != before["2.jpg"]
    assert found.new == 1
    assert any("1 photos are no longer in the archive (1.jpg)" in notice for notice in found.notices)


def test_no_header_of_a_known_photo_is_read(tmp_path):
    photo(tmp_path / "archive/1.jpg", 1)
    archive, run = str(tmp_path / "archive"), Run(str(tmp_path / "run"))
    index(archive, run.uri)
    before = run.read("index")
    hide(tmp_path / "archive")
    index(archive, run.uri, known=before)
    assert run.read("index").equals(before)


def hide(archive: Path) -> None:
    """Overwrites the photos by zeros; size and time of the files, and so their ids, stay."""
    for path in archive.rglob("*.jpg"):
        stat = path.stat()
        path.write_bytes(bytes(stat.st_size))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_shards_are_kept():
    assert assign_shards({"a": 2, "b": 1, "c": 2, "d": 1}, 3, {"b": 0, "d": 4}) == {"b": 0, "d": 4, "a": 5, "c": 6}


# ------------------------------------------------------------------------------------------------ tables


def rows(*fields):
    return pa.Table.from_pylist([{"status": "ok", "instances": [], "shard": 0, **f} for f in fields], PHOTOS)


def seen(photo_id, sequence_id, **fields):
    instance = records.new_instance(f"{photo_id}#0", descriptor=np.ones(4, np.float16), box=[0, 0, 9, 9])
    return {"photo_id": photo_id, "path": photo_id, "sequence_id": sequence_id, "instances": [instance], **fields}


def test_encounters_are_done_again_where_photos_changed(tmp_path):
    run = Run(str(tmp_path))
    builder = EncounterBuilder(EncounterConfig(codebook=None))
    run.write("photos", rows(seen("1", "s"), seen("2", "s")), "a")
    run.write("photos", rows(seen("3", "t", shard=1), {"photo_id": "4", "sequence_id": "u", "shard": 2}), "b")
    for shard, photos in ((0, "a"), (1, "b")):
        table = run.read_file(run.file("photos", f"{photos}.parquet"))
        run.write("encounters", builder(table), f"{shard:05d}")
    a, b = run.files("photos")
    assert shards_of(run) == ({0: [a], 1: [b], 2: [b]}, {0, 1})  # 2 was never done, though it has no animal

    run.write("photos", rows(seen("1", "s"), seen("2", "s", duplicate_of="0")), "a")
    assert shards_of(run)[1] == {1}  # a photo that turned out to be a copy leaves its encounter
    run.write("photos", rows(seen("1", "s"), seen("2", "z")), "a")
    assert shards_of(run)[1] == {1}  # a photo that belongs to another sequence now
    run.write("photos", rows(seen("1", "s"), seen("2", "s"), seen("5", "t", shard=1)), "a")
    assert shards_of(run)[1] == {0}  # a new photo in the second shard
    run.write("photos", rows(seen("1", "s"), seen("2", "s"), seen("3", "t")), "a")
    run.write("photos", rows(), "b")
    assert shards_of(run)[0] == {0: [a]}
    assert len(run.files("encounters")) == 1  # a shard without photos has no encounters


def test_photos_take_the_sequence_that_the_index_says(tmp_path):
    run = Run(str(tmp_path))
    run.write("photos", rows(seen("1", "s"), seen("2", "s"), seen("3", "s")), "a")
    run.write("photos", rows(seen("4", "t", shard=1)), "b")
    untouched = run.fs.get_file_info(run.files("photos")[1]).mtime_ns
    run.write(
        "index", rows({"photo_id": "1", "sequence_id": "s"}, {"photo_id": "3", "sequence_id": "r", "shard": 7}), "0"
    )
    run.write("index", rows({"photo_id": "4", "sequence_id": "t", "shard": 1}), "1")
    settle(run)  # 2 was replaced by another file, 3 moved
    found = run.read("photos").to_pylist()
    assert [(r["photo_id"], r["sequence_id"], r["shard"]) for r in found] == [
        ("1", "s", 0),
        ("3", "r", 7),
        ("4", "t", 1),
    ]
    assert all(len(r["instances"]) == 1 for r in found)
    assert run.fs.get_file_info(run.files("photos")[1]).mtime_ns == untouched


# ------------------------------------------------------------------------------------------------ other weights


def manifest(given=None, weights=(), **config):
    settings = load_config(ProcessConfig, overrides=config).model_dump(mode="json")
    digests = {
        k: k for k in ("segmentation", "sides", "marks", "pattern", "embedding", "whitening", "codebook")
    } | dict(weights)
    return {"config": settings, "weights": digests, "instances": given}


@pytest.mark.parametrize(
    ("new", "again"),
    [
        (manifest(), []),
        (manifest(**{"encounters.codebook": None}), []),  # encounters are made anew in any case
        (manifest(weights={"codebook": "x"}), []),
        (manifest(**{"segmentation.device": "cpu", "pattern.device": "cpu"}), []),  # where, not what
        (manifest(**{"pattern.weights": "/elsewhere/the-same"}), []),  # the same content by another name
        (manifest(weights={"embedding": "x"}), ["embedding"]),
        (manifest(weights={"whitening": "x"}), ["descriptor"]),
        (manifest(**{"descriptor.whitening": None}, weights={"whitening": None}), ["descriptor"]),
        (manifest(weights={"sides": "x"}), ["sides"]),
        (manifest(**{"sides.least": 0.5}), ["sides"]),
        (manifest(weights={"marks": "x"}), ["keypoints"]),
        (manifest(**{"keypoints.marks": "/elsewhere/the-same"}), []),
        (manifest(**{"keypoints.contrast": 0.01}), ["keypoints"]),
        (manifest(**{"keypoints.marks": None}, weights={"marks": None}), ["keypoints"]),  # RootSIFT
        (manifest(weights={"pattern": "x"}), ["pattern", "embedding"]),
        (manifest(**{"pattern.patches.stride": 32}), ["pattern", "embedding"]),
        (manifest(**{"descriptor.size": 128}, weights={"embedding": "x"}), ["descriptor", "embedding"]),
        (manifest(weights={"segmentation": "x"}), list(RESTS_ON)),
        (manifest(**{"crops.longer_side": 512}), list(RESTS_ON)),
        (manifest(given="x"), list(RESTS_ON)),  # boxes of the user's
    ],
)
def test_what_rests_on_a_change(new, again):
    assert outdated(manifest(), new) == again


@pytest.mark.parametrize(("stage", "kind"), [("keypoints", "marks"), ("sides", "sides")])
def test_a_run_of_an_older_version_lacks_stages(stage, kind):
    old = manifest()
    del old["config"][stage], old["weights"][kind]
    assert outdated(old, manifest()) == [stage]


def test_settings_of_the_detector_do_not_matter_where_instances_were_given():
    old, new = (
        manifest(given="x"),
        manifest(given="x", **{"segmentation.weights": "other"}, weights={"segmentation": "y"}),
    )
    assert outdated(old, new) == []


def test_reuse_takes_what_is_there_and_clears_what_will_be_filled(tmp_path):
    source = Run(str(tmp_path))
    full = records.new_instance("1#0", crop=b"jpeg", descriptor=[1.0], pattern=b"png", usable=True, embeddings=[2.0])
    source.write("photos", rows({"photo_id": "1", "digest": "d", "instances": [full], "sequence_id": "old"}), "a")
    source.write("photos", rows({"photo_id": "2", "status": "error", "error": "damaged"}, {"photo_id": "3"}), "b")
    todo = rows(*({"photo_id": n, "sequence_id": "new", "shard": 5} for n in ("3", "1", "2", "4")))
    blocks = list(reusable(source, todo))
    assert [block["photo_id"].to_pylist() for block in blocks] == [["1"], ["3"]]  # 2 failed, 4 is new
    found = Reuse(source.uri, ["pattern", "embedding"])(pa.concat_tables(blocks)).cast(PHOTOS).to_pylist()
    assert [(r["photo_id"], r["sequence_id"], r["shard"], r["digest"]) for r in found] == [
        ("1", "new", 5, "d"), ("3", "new", 5, None),
    ]  # fmt: skip
    (instance,) = found[0]["instances"]
    kept = {k: instance[k] for k in ("crop", "descriptor", "pattern", "usable", "embeddings")}
    assert kept == {"crop": b"jpeg", "descriptor": [1.0], "pattern": None, "usable": None, "embeddings": None}
    assert FILE not in found[0]


# ------------------------------------------------------------------------------------------------ whole runs


@pytest.fixture(scope="module")
def grown(tmp_path_factory, cluster):
    """An archive of two sequences that was processed, then grew by a photo in the first and by a third; and its run,
    which was gone on with. Boxes are given."""
    out = tmp_path_factory.mktemp("grown")
    archive, run = out / "archive", Run(str(out / "run"))
    for n in range(6):
        photo(archive / f"{'abc'[n // 2]}/{n}.jpg", n, seed=n)
    photo(archive / "a/9.jpg", 9, seed=9)
    images = [{"id": k, "file_name": str(p.relative_to(archive)), "width": 160, "height": 120}
              for k, p in enumerate(sorted(archive.rglob("*.jpg")))]  # fmt: skip
    boxes = [{"id": i["id"], "image_id": i["id"], "category_id": 1, "bbox": [5, 5, 110, 105]} for i in images]
    given = str(out / "boxes.json")
    Path(given).write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "x"}]}))
    later = out / "later"
    for path in ("c", "a/9.jpg"):
        (later / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(archive / path, later / path)
    begin(str(archive), run.uri, LIGHT, given)
    process(str(archive), run.uri, LIGHT, given)
    files = {f: run.fs.get_file_info(f).mtime_ns for f in run.files("photos") + run.files("encounters")}
    hide(archive)  # what is read again fails
    shutil.copytree(later, archive, dirs_exist_ok=True)
    plan = dict(explain(str(archive), run.uri, LIGHT, given, 2, 0))
    summary = begin(str(archive), run.uri, LIGHT, given, "pusa process ...")
    state = run.manifest()["state"]
    process(str(archive), run.uri, LIGHT, given)
    return {"archive": str(archive), "run": run, "given": given, "files": files, "plan": plan, "summary": summary,
            "state": state}  # fmt: skip


LIGHT = load_config(
    ProcessConfig,
    overrides={"photos_per_block": 2, "index.photos_per_shard": 2, "descriptor.size": 64, "pattern.input_size": 128,
               "pattern.min_fraction": 0.0, "pattern.min_quality": 0.0, "encounters.codebook": None},
)  # fmt: skip


def test_only_what_is_new_is_processed(grown):
    run = grown["run"]
    assert grown["plan"]["photos"].endswith("4 of them done in " + run.uri + "; 3 are new")
    assert grown["plan"]["encounters"].startswith("of 2 sequences")
    assert grown["plan"]["blocks"].startswith("2 of 2")
    assert (grown["summary"].new, grown["state"]) == (3, "running")
    photos = run.read("photos").to_pylist()
    assert {r["path"]: r["status"] for r in photos} == dict.fromkeys(
        ("a/0.jpg", "a/1.jpg", "a/9.jpg", "b/2.jpg", "b/3.jpg", "c/4.jpg", "c/5.jpg"), "ok"
    )
    assert all(len(r["instances"]) == 1 for r in photos)
    now = {f: run.fs.get_file_info(f).mtime_ns for f in grown["files"]}
    changed = {f.rsplit("/", 2)[1] for f in now if now[f] != grown["files"][f]}
    assert changed == {"encounters"}  # of the sequence that got a photo
    assert sum(now[f] != grown["files"][f] for f in now) == 1
    grouped = [e["instance_ids"] for e in run.read("encounters").to_pylist()]
    assert sorted(i for members in grouped for i in members) == sorted(
        i["instance_id"] for r in photos for i in r["instances"]
    )
    assert run.manifest()["counts"]["photos"] == 7
    assert begin(grown["archive"], run.uri, LIGHT, grown["given"]) is None  # nothing came since


def test_other_settings_behind_the_pattern(grown, tmp_path):
    """Patterns with another threshold: photos are not read, descriptors stay, patterns and embeddings are made anew."""
    settings = load_config(ProcessConfig, overrides=LIGHT.model_dump(mode="json") | {"pattern.closing": 5})
    run, old = Run(str(tmp_path / "run")), grown["run"]
    arguments = (grown["archive"], run.uri, settings, grown["given"])
    with pytest.raises(UserError, match="--from"):
        begin(grown["archive"], old.uri, settings, grown["given"])
    plan = dict(explain(*arguments, 2, 0, old.uri))
    assert plan["from the other run"] == "7 photos: pattern and embedding again"
    hide(Path(grown["archive"]))
    begin(*arguments, source=old.uri)
    process(*arguments, source=old.uri)
    mine, theirs = (r.read("photos").sort_by("photo_id") for r in (run, old))
    assert mine["status"].to_pylist() == ["ok"] * 7
    kept = ("instance_id", "box", "mask", "crop", "descriptor")
    anew = 0
    for a, b in zip(records.instances(mine), records.instances(theirs), strict=True):
        assert all(np.array_equal(a[0][k], b[0][k]) for k in kept)
        anew += a[0]["pattern"] != b[0]["pattern"]
    assert anew > 0


def test_a_run_of_another_archive_is_no_beginning(grown, tmp_path):
    photo(tmp_path / "archive/1.jpg", 1)
    with pytest.raises(UserError, match="is a run of"):
        begin(str(tmp_path / "archive"), str(tmp_path / "run"), LIGHT, source=grown["run"].uri)


def test_a_photo_whose_header_failed_is_looked_at_again(tmp_path):
    run = Run(str(tmp_path / "old"))
    run.write("index", rows({"photo_id": "1"}, {"photo_id": "2", "status": "error", "error": "RAW needs [raw]"}), "0")
    run.write_manifest({"archive": "A", "config": LIGHT.model_dump(mode="json")})
    (known,) = known_photos("A", Run(str(tmp_path / "new")), run.uri, LIGHT)["photo_id"].to_pylist()
    assert known == "1"
    by_gap = LIGHT.model_copy(update={"index": BY_GAP})
    assert known_photos("A", Run(str(tmp_path / "new")), run.uri, by_gap) is None  # other sequences: all anew
    assert known_photos("A", run, None, by_gap)["photo_id"].to_pylist() == ["1", "2"]


def test_time_by_what_it_cost_before(grown):
    """360 photos took 720 core seconds, a quarter of them in the last stage: 2 s a photo, .5 for that stage."""
    cost = {"photos": 360, "core_seconds": 720.0, "gpu_seconds": 0.0, "stages": {"A": 300.0, "B": 100.0}}
    work = work_of(grown["archive"], grown["run"].uri, LIGHT, grown["given"], None)
    assert (work.whole, work.part) == (0, 0)
    work = type(work)("", whole=1800, part=7200, again=[], encounters="")
    assert time_of(work, ["B"], [{}, {"cost": cost}], 4, 0) == "about 0.5 h and 2 core hours, as before"
    assert time_of(work, ["B"], [{"cost": cost}], 4, 1).startswith("not known")  # on GPUs nothing was measured yet


def test_photos_of_an_older_version_get_the_columns_that_they_lack(tmp_path):
    """Their sides are the input's: they have no probability, and the network does not tell them anew."""
    table = rows(seen("1", "s") | {"instances": [records.new_instance("1#0", side="left")]})
    nested = table["instances"].combine_chunks()
    kept = [field.name for field in nested.type.value_type if field.name != "side_probability"]
    old = pa.StructArray.from_arrays([nested.values.field(name) for name in kept], names=kept)
    run = Run(str(tmp_path))
    where = run.file("photos", "0.parquet")
    Path(where).parent.mkdir()
    column = pa.ListArray.from_arrays(nested.offsets, old)
    pq.write_table(table.set_column(table.column_names.index("instances"), "instances", column), where)
    found = SideFinder(SideConfig())(Reuse(run.uri, ["sides"])(table.append_column(FILE, pa.array([where]))))
    assert found.schema.equals(records.PHOTOS)
    ((instance,),) = records.instances(found)
    assert (instance["side"], instance["side_probability"]) == ("left", None)
