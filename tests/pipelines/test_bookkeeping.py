"""What keeps a run whole: blocks, duplicates, photos written twice, errors that are systematic."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import cluster
from pipelines.process import (
    Progress,
    blocks_of,
    stop_if_systematic,
)
from pipelines.settle import settle
from pipelines.write import PhotoWriter
from pusa.duplicates import mark_duplicates
from pusa.errors import UserError
from pusa.records import PHOTOS, Run


@pytest.mark.parametrize(
    ("cpus", "gpus", "actors", "photos_per_block"),
    [
        (2, 0, 2, 4),  # a laptop: all stages in one actor a core
        (1, 0, 1, 4),  # one core still works
        (16, 0, 16, 4),
        (1000, 0, 1000, 50),  # 1,000 photos a second, 20 blocks
        (8, 1, 8, 4),  # cores beside a GPU have something to do, too
        (2, 1, 2, 4),
        (7, 1, 7, 4),  # sevenths of a GPU
        (256, 16, 128, 16),  # but not sixteen copies of all networks on a GPU
        (64, 64, 64, 64),
        (1, 4, 4, 4),  # fewer cores than GPUs
    ],
)
def test_share_never_asks_for_more_than_there_is(cpus, gpus, actors, photos_per_block):
    share = cluster.share(cpus, gpus)
    assert (share.actors, share.photos_per_block) == (actors, photos_per_block)
    # What does not fit would wait for ever. Ray counts in ten-thousandths, rounded.
    for name, there in (("num_cpus", cpus), ("num_gpus", gpus)):
        each = round(share.options(blocks=1).get(name, 0) * 10_000)
        assert each * -(-actors // max(gpus, 1)) <= 10_000 * (there / max(gpus, 1))


@pytest.mark.parametrize(
    ("done", "errors", "stops"),
    [
        (199, 199, False),  # too early to judge
        (200, 100, False),  # half is not more than half
        (200, 101, True),
        (5000, 2400, False),
    ],
)
def test_systematic_errors_stop_the_run(done, errors, stops):
    progress = Progress("photos", 10_000, done, errors=errors)
    if stops:
        with pytest.raises(UserError, match="systematic"):
            stop_if_systematic(progress)
    else:
        stop_if_systematic(progress)


def rows(*fields):
    return pa.Table.from_pylist([{"status": "ok", "instances": [], **f} for f in fields], PHOTOS)


def test_duplicates_point_at_the_first_by_path(tmp_path):
    run = Run(str(tmp_path))
    run.write(
        "photos",
        rows({"photo_id": "1", "path": "b.jpg", "digest": "x"}, {"photo_id": "2", "path": "c.jpg", "digest": "y"}),
        "a",
    )
    run.write(
        "photos", rows({"photo_id": "3", "path": "a.jpg", "digest": "x"}, {"photo_id": "4", "path": "d.jpg"}), "b"
    )
    assert mark_duplicates(run) == 1
    found = run.read("photos", ["photo_id", "duplicate_of"]).to_pylist()
    assert {r["photo_id"]: r["duplicate_of"] for r in found} == {"1": "3", "2": None, "3": None, "4": None}
    assert mark_duplicates(run) == 1  # a second time changes nothing


def test_a_photo_that_was_written_twice_is_kept_once(tmp_path):
    run = Run(str(tmp_path))
    run.write("photos", rows({"photo_id": "1"}, {"photo_id": "2"}), "a")
    run.write("photos", rows({"photo_id": "2"}, {"photo_id": "3"}), "b")
    run.write("index", rows({"photo_id": "1"}, {"photo_id": "2"}, {"photo_id": "3"}), "00000")
    settle(run)
    assert sorted(run.read("photos", ["photo_id"])["photo_id"].to_pylist()) == ["1", "2", "3"]
    run.write("index", rows({"photo_id": "4"}), "00001")
    with pytest.raises(UserError, match="1 photos are missing"):
        settle(run)


def test_a_resumed_run_has_the_blocks_of_one_that_was_never_disturbed():
    index = rows(*({"photo_id": str(n)} for n in range(8)))
    blocks = blocks_of(index, 3, pa.array(["3", "4", "5", "7"]))  # the second block, and half of the third
    assert [block["photo_id"].to_pylist() for block in blocks] == [["0", "1", "2"], ["6"]]


def test_the_same_block_overwrites_itself(tmp_path):
    block = rows({"photo_id": "1"}, {"photo_id": "2", "status": "error", "error": "empty"})
    counts = [PhotoWriter(str(tmp_path))(block).to_pylist() for _ in range(2)]
    assert (
        counts[0]
        == counts[1]
        == [
            {
                "block": Path(Run(str(tmp_path)).files("photos")[0]).stem,
                "photos": 2,
                "instances": 0,
                "errors": ["empty"],
            }
        ]
    )
    assert len(Run(str(tmp_path)).read("photos")) == 2
