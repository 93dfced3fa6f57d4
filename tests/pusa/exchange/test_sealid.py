"""SealID in both arrangements: two seals, of each one photo in the database and two queries."""

import cv2
import numpy as np
import pyarrow as pa
import pytest

from pusa import exchange
from pusa.errors import UserError
from pusa.segmentation import masks

ROWS = [("aaaaaa", 3, "database"), ("bbbbbb", 3, "query"), ("cccccc", 3, "query"),
        ("dddddd", 57, "database"), ("eeeeee", 57, "query"), ("ffffff", 57, "query")]  # fmt: skip
HEADER = "file,class_id,reid_split,segmentation_split\n"


def seal():
    """20 x 30 pixels: a body with a dark eye, a spot of dirt, and what JPEG leaves of black."""
    rgb = np.full((20, 30, 3), 4, np.uint8)
    rgb[5:15, 8:24] = 120
    rgb[9:11, 12:14] = 0  # the eye
    rgb[1:3, 1:3] = 90  # the dirt
    return rgb


@pytest.fixture(params=["as it unpacks", "as wildlife-datasets moves it"])
def folder(request, tmp_path):
    """SealID/, whose segmented pictures lie inside or in SealIDSegmented/."""
    root = tmp_path / "SealID" / "full images"
    moved = request.param.startswith("as w")
    other = tmp_path / "SealIDSegmented" / "full images" if moved else root
    for name, _, split in ROWS:
        for file, picture in ((root / f"source_{split}", seal() + 60), (other / f"segmented_{split}", seal())):
            file.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file / f"{name}.png"), picture)
    annotation = HEADER + "".join(f"{name}.png,{seal},{split},training\n" for name, seal, split in ROWS)
    for place in {root, other}:
        (place / "annotation.csv").write_text(annotation)
    return tmp_path / "SealID"


def names(instances):
    return {path: [g.identity for g in found] for path, found in instances.items()}


def test_photos_and_names(folder):
    assert exchange.kind_of(str(folder)) == "sealid"
    found = names(exchange.read_instances(str(folder)))
    sources = {p: n for p, n in found.items() if "source_" in p}
    assert sources == {f"full images/source_{s}/{n}.png": [str(i)] for n, i, s in ROWS}  # 3 and 57: names, with a gap


@pytest.mark.parametrize(("archive", "expected"), [
    ("full images", {f"source_{s}/{n}.png" for n, _, s in ROWS}),
    ("full images/source_query", {f"{n}.png" for n, _, s in ROWS if s == "query"}),
    (".", {f"full images/source_{s}/{n}.png" for n, _, s in ROWS}),
])  # fmt: skip
@pytest.mark.parametrize("given", [".", "full images", "full images/annotation.csv"])
def test_paths_are_relative_to_the_archive(folder, archive, expected, given):
    found = exchange.read_instances(str(folder / given), archive=str(folder / archive))
    assert {path for path in found if "segmented" not in path} == expected


def test_the_mask_is_the_largest_piece_that_is_not_black(folder):
    (given,) = exchange.read_instances(str(folder))["full images/source_query/bbbbbb.png"]
    assert given.mask is None  # no picture is read before its photo is
    found = given.with_mask(20, 30)
    expected = np.zeros((20, 30), bool)
    expected[5:15, 8:24] = True
    assert np.array_equal(masks.decode(found.mask), expected)
    assert found.box == (8, 5, 24, 15)


def test_without_any_segmented_picture_a_photo_is_a_seal(folder):
    import shutil

    for path in [*folder.parent.rglob("segmented_*")]:
        shutil.rmtree(path)
    assert all(g.whole for found in exchange.read_instances(str(folder)).values() for g in found)


def test_a_segmented_picture_that_is_missing_is_named(folder):
    next(folder.parent.rglob("segmented_query/cccccc.png")).unlink()
    with pytest.raises(UserError, match=r"found none of 1 photo \(segmented_query/cccccc\.png\)"):
        exchange.read_instances(str(folder))


def test_a_photo_that_is_missing_is_named(folder):
    found = exchange.read_instances(str(folder), archive=str(folder / "full images/source_query"))
    notices = exchange.check_instances(found, ["bbbbbb.png", "eeeeee.png", "ffffff.png"], "SealID")
    assert notices == ["1 photo (cccccc.png) in SealID but not in the archive."]


@pytest.mark.parametrize(("text", "message"), [
    ("file,reid_split\n", "column `class_id` is missing. Found: file, reid_split. Expected: file, class_id"),
    (HEADER + "a.png,3,test,training\n", "line 2: expected reid_split database or query, found 'test'"),
    (HEADER + "a.png,,query,training\n", "line 2: expected a class_id"),
    (HEADER + "a.png,3,query,training\na.png,57,query,training\n", r"line 3: a\.png is there twice in the query"),
])  # fmt: skip
def test_bad_annotations(tmp_path, text, message):
    (tmp_path / "SealID" / "full images").mkdir(parents=True)
    (tmp_path / "SealID" / "full images" / "annotation.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        exchange.read_instances(str(tmp_path / "SealID"))


def test_another_folder_is_none(tmp_path):
    with pytest.raises(UserError, match=r"is a folder\. Expected SealID's"):
        exchange.read_instances(str(tmp_path))


def test_an_archive_elsewhere_is_told(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UserError, match="none of its photos lies in"):
        exchange.read_instances(str(folder), archive=str(tmp_path / "elsewhere"))


def test_the_seal_takes_the_detectors_place(folder):
    from pusa.records import PHOTOS, instances
    from pusa.segmentation.detect import PhotoDetector
    from pusa.segmentation.segmenter import SegmentationConfig

    archive = str(folder / "full images" / "source_query")
    detect = PhotoDetector(archive, SegmentationConfig(), given=str(folder))
    rows = [{"photo_id": n, "path": f"{n}.png", "status": "new"} for n in ("bbbbbb", "eeeeee")]
    # a segmented picture that was damaged since: its photo is a row with the reason, the other goes on
    next(folder.parent.rglob("segmented_query/eeeeee.png")).write_bytes(b"")
    found = detect(pa.Table.from_pylist(rows, PHOTOS))
    assert found["status"].to_pylist() == ["ok", "error"]
    assert "segmented_query/eeeeee.png cannot be read" in found["error"][1].as_py()
    ((seal,), none) = instances(found)
    assert (list(seal["crop_box"]), masks.area(seal["mask"]), none) == ([8, 5, 24, 15], 160, [])
