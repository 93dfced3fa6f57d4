"""Faults, injected: processes that die, buckets that refuse, disks that are full. Whole runs: benchmarks/faults.py."""

import errno
import os
import signal
import threading
import time
from itertools import count

import pyarrow as pa
import pytest
import ray
from ray import exceptions

from pipelines import cluster
from pipelines.cluster import _told as told
from pipelines.guard import guarded
from pusa import records, storage
from pusa.errors import PhotoError, UserError
from pusa.listing import list_photos
from pusa.photos import read_header
from pusa.records import PHOTOS, Run
from pusa.segmentation.detect import PhotoDetector

# ------------------------------------------------------------------------------------------------ photos that kill


class Deadly:
    """A stage that notes the photos of each call, and dies of some: by "poison" always, by "once" the first time."""

    def __init__(self, log, threads=None):
        self.log = log

    def __call__(self, photos):
        paths = photos["path"].to_pylist()
        with open(self.log, "a") as log:
            log.write(" ".join(paths) + "\n")
            first = log.tell() == len(" ".join(paths)) + 1
        if "poison" in paths or ("once" in paths and first):
            os.kill(os.getpid(), signal.SIGKILL)
        return records.with_columns(photos, status=["ok"] * len(photos))


def through_deadly(tmp_path, paths):
    """Photos, in blocks of two, by an actor of Ray Data: what became of them by path, and the calls."""
    photos = [{"photo_id": f"{n:x}", "path": path, "status": "new", "instances": []} for n, path in enumerate(paths)]
    blocks = [pa.Table.from_pylist(photos[i : i + 2], PHOTOS) for i in range(0, len(photos), 2)]
    done = ray.data.from_arrow(blocks).map_batches(
        guarded(Deadly), fn_constructor_kwargs={"out": str(tmp_path / "run"), "log": str(tmp_path / "log")},
        batch_size=2, batch_format="pyarrow", num_cpus=0.5, compute=ray.data.ActorPoolStrategy(size=1),
    )  # fmt: skip
    rows = {
        row["path"]: (row["status"], row["error"])
        for row in done.select_columns(["path", "status", "error"]).iter_rows()
    }
    assert not list((tmp_path / "run" / "suspects").iterdir())  # no mark is left
    return rows, (tmp_path / "log").read_text().splitlines()


def test_a_photo_that_kills_three_times_becomes_a_row_with_that_error(cluster, tmp_path):
    rows, calls = through_deadly(tmp_path, ["a", "poison", "b", "c"])
    error = "killed Deadly three times: it crashes, or needs more memory than there is"
    assert rows == {"a": ("ok", None), "poison": ("error", error), "b": ("ok", None), "c": ("ok", None)}
    ours = [call for call in calls if "b c" not in call]
    assert ours == ["a poison", "a poison", "a", "poison", "a"]  # in company, marked, then one by one


def test_a_process_that_dies_once_costs_its_block_once_more(cluster, tmp_path):
    rows, calls = through_deadly(tmp_path, ["a", "once"])
    assert rows == {"a": ("ok", None), "once": ("ok", None)}
    assert calls == ["a once", "a once"]  # whole: what comes out does not depend on the fault


# ------------------------------------------------------------------------------------------------ storage


CONTENT = b"no photo"  # shorter than a refusal, which Arrow alone would not know for one


@pytest.fixture
def s3(monkeypatch):
    """A bucket `photos` with a/1.jpg in it, behind a gate."""
    import boto3
    from faulty_s3 import FaultyS3  # here: Ray's workers import this file, but have no `tests` in their path

    server = FaultyS3()
    for key, value in server.environment().items():
        monkeypatch.setenv(key, value)
    client = boto3.client("s3", endpoint_url=server.url, region_name="us-east-1")
    client.create_bucket(Bucket="photos")
    client.put_object(Bucket="photos", Key="a/1.jpg", Body=CONTENT)
    yield server
    server.stop()


@pytest.mark.parametrize("refusal", [503, 500, "drop"])
def test_a_bucket_that_refuses_now_and_then(s3, refusal):
    filesystem, path = storage.locate("s3://photos/a")
    turn = count()
    s3.fault = lambda request: refusal if next(turn) % 3 else None  # two of three
    assert storage.read_bytes(filesystem, f"{path}/1.jpg") == CONTENT
    storage.write_bytes(filesystem, f"{path}/2", b"new")
    run, rows = Run("s3://photos/run"), pa.Table.from_pylist([{"photo_id": "1", "instances": []}], PHOTOS)
    run.write("photos", rows, "a")
    assert run.read("photos", ["photo_id"])["photo_id"].to_pylist() == ["1"]  # one column of a few bytes
    assert run.read("photos").equals(rows)
    with pytest.raises(PhotoError, match="not a JPEG"):  # what was read is the photo, not the refusal
        read_header(filesystem, f"{path}/1.jpg")
    s3.fault = lambda request: None
    assert s3.refused >= 4
    assert storage.read_bytes(filesystem, f"{path}/2") == b"new"


def test_files_of_a_bucket_are_read_side_by_side_and_given_in_order(s3):
    run = Run("s3://photos/run")
    for name in "abcdef":
        run.write("photos", pa.Table.from_pylist([{"photo_id": name, "instances": []}], PHOTOS), name)
    meeting, seen = threading.Barrier(6), set()

    def all_there(request):
        """Holds the first request for each file until there is one for every file."""
        path = request["PATH_INFO"]
        if path.endswith(".parquet") and path not in seen:
            seen.add(path)
            meeting.wait(timeout=20)

    s3.fault = all_there
    assert [rows["photo_id"].to_pylist() for _, rows in run.parts("photos", ["photo_id"])] == [[n] for n in "abcdef"]
    assert not meeting.broken


def test_a_bucket_that_is_away_is_no_error_of_a_photo(s3, monkeypatch):
    """Or a run through a bad night would end, with errors for rows."""
    monkeypatch.setattr(storage, "ATTEMPTS", 2)
    detector = PhotoDetector.__new__(PhotoDetector)  # without its network
    detector.archive = storage.locate("s3://photos/a")
    filesystem, path = detector.archive
    s3.fault = lambda request: 503
    for attempt in (
        lambda: detector.read("1.jpg"),
        lambda: read_header(filesystem, f"{path}/1.jpg"),
        lambda: Run("s3://photos/run").files("photos"),
        lambda: Run("s3://photos/run").exists(),
        lambda: storage.write_bytes(filesystem, f"{path}/2", b""),
        lambda: list_photos("s3://photos/a"),
    ):
        with pytest.raises(UserError, match=r"does not answer|Cannot reach"):
            attempt()
    s3.fault = lambda request: None
    with pytest.raises(PhotoError, match="cannot be read"):
        detector.read("gone.jpg")  # one object that is not there is
    s3.fault = lambda request: 403
    with pytest.raises(PhotoError, match="ACCESS_DENIED"):
        detector.read("1.jpg")


def test_a_full_disk(tmp_path):
    part = tmp_path / f"table.parquet.{os.getpid()}.tmp"
    part.symlink_to("/dev/full")  # the kernel says of it what it says of a full disk
    with pytest.raises(UserError, match="The disk is full"):
        storage.write_bytes(storage.locate(tmp_path)[0], str(tmp_path / "table.parquet"), b"x" * 10_000)
    assert not list(tmp_path.iterdir())  # no part stays, which would keep the disk full
    storage.write_bytes(storage.locate(tmp_path)[0], str(tmp_path / "table.parquet"), b"x")


# ------------------------------------------------------------------------------------------------ the cluster


class Wrapped(Exception):
    def __init__(self, cause):
        super().__init__("forty lines of Ray")
        self.cause = cause


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Wrapped(UserError("There are no weights.")), "There are no weights."),
        (Wrapped(UserError("Full.\nMake room.\nFailed to map after 1/10.\nand more")), r"Full\.\nMake room\.$"),
        (Wrapped(exceptions.OutOfDiskError("full\nand more")), "disk on which Ray keeps"),
        (exceptions.NodeDiedError("node 1 died\nand more"), r"gave way \(NodeDiedError: node 1 died\)"),
        (exceptions.LocalRayletDiedError(), "gave way"),
        (Wrapped(ValueError("shapes differ")), None),  # a mistake of ours is not the cluster's
    ],
)
def test_what_is_told_when_the_cluster_gives_way(error, message):
    found = told(error)
    if message is None:
        assert found is error
        return
    assert isinstance(found, UserError)
    with pytest.raises(UserError, match=message):
        raise found
    assert "and more" not in str(found)


class Full:
    """A stage that writes to a disk that is full."""

    def __init__(self, path):
        self.path = path

    def __call__(self, photos):
        with storage.answering():
            raise OSError(errno.ENOSPC, "No space left on device", self.path)


def test_what_a_stage_raises_arrives(cluster):
    """Out of the errors that Ray wraps around it, and over the border between two processes."""
    pool = ray.data.ActorPoolStrategy(size=1)
    stream = ray.data.range(2).map_batches(Full, fn_constructor_args=("x",), num_cpus=0.5, compute=pool)
    with pytest.raises(exceptions.RayTaskError) as found:
        stream.take_all()
    assert str(told(found.value)).startswith("The disk is full ([Errno 28] No space left on device: 'x'). Make room")


def test_lost_nodes_are_waited_for_and_not_for_ever(monkeypatch):
    there = iter([(6.0, 0.0), (3.0, 0.0), (6.0, 0.0)])  # one goes and comes back
    monkeypatch.setattr(cluster, "resources", lambda: next(there, (3.0, 0.0)))  # and goes for good
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(cluster, "PATIENCE_MINUTES", 0.005)
    with pytest.raises(UserError, match="3 CPUs and 0 GPUs are left of 6 and 0"), cluster.staffed():
        time.sleep(600)


def test_a_run_that_moves_is_not_stopped(monkeypatch):
    there = iter([(6.0, 0.0)])  # then an autoscaler takes a node that nobody needs
    monkeypatch.setattr(cluster, "resources", lambda: next(there, (3.0, 0.0)))
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(cluster, "PATIENCE_MINUTES", 0.01)
    with cluster.staffed() as moved:
        for _ in range(20):  # twice as long as it would wait
            time.sleep(0.06)
            moved()


def test_ctrl_c_is_not_taken_for_a_lost_node(monkeypatch):
    monkeypatch.setattr(cluster, "resources", lambda: (2.0, 0.0))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what is in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt), cluster.staffed():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
