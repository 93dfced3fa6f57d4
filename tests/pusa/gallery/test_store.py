"""The gallery's store: what goes in comes out, twice is once, and what does not belong is refused."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
import torch

from pusa import weights
from pusa.errors import UserError
from pusa.fisher.codebook import Codebook, Mixture
from pusa.gallery.geometry import NO_PATCHES, Features, Points
from pusa.gallery.journal import Decision
from pusa.gallery.lance import retried
from pusa.gallery.store import Gallery
from pusa.gallery.verify import VerifyConfig
from pusa.marks.network import MarkNetwork

K, D = 3, 4
LENGTH = 2 * K * D
CODEBOOK = Codebook(
    torch.zeros(5),
    torch.zeros(5, D),
    Mixture(torch.full((K,), 1 / K), torch.zeros(K, D), torch.ones(K, D)),
    {"embedding": "e" * 64, "pattern": "p" * 64},
    "c" * 64,
)


@pytest.fixture
def gallery(tmp_path) -> Gallery:
    return Gallery.create(str(tmp_path / "gallery"), CODEBOOK)


def vector(seed: int, length: int = LENGTH) -> np.ndarray:
    v = np.random.default_rng(seed).standard_normal(length)
    return (v / np.linalg.norm(v)).astype(np.float16)


def rows(*encounters: dict) -> pa.Table:
    """Rows to enroll; a column is there if the first row has it, as from a run's encounters."""
    types = {
        "fisher": pa.list_(pa.float16()),
        "thumbnail": pa.binary(),
        "n_patches": pa.int32(),
        "taken_from": pa.timestamp("ms"),
    }
    names = {"run": "r", "encounter_id": None, "individual": None} | encounters[0]
    return pa.table(
        {n: pa.array([({"run": "r"} | e).get(n) for e in encounters], types.get(n, pa.string())) for n in names}
    )


def test_what_goes_in_comes_out(gallery):
    when = datetime(2021, 5, 3, 12, 30)
    table = rows(
        {
            "encounter_id": "b#0",
            "individual": "Aino",
            "fisher": vector(1),
            "taken_from": when,
            "place": "Pyötikkö",
            "side": "left",
        },
        {"encounter_id": "a#0", "individual": "O'Neill", "fisher": vector(2)},
        {"encounter_id": "c#0", "individual": None, "fisher": vector(3)},
        {"encounter_id": "d#0", "individual": "Aino", "fisher": None},
    )
    assert gallery.enroll(table) == 4
    found = Gallery.open(gallery.uri, CODEBOOK)
    assert found.counts() == {"individuals": 2, "encounters": 4, "without_name": 1, "without_vector": 1}
    assert {k: found.about[k] for k in ("codebook", "embedding", "pattern")} == {
        "codebook": "c" * 64, "embedding": "e" * 64, "pattern": "p" * 64,
    }  # fmt: skip
    # Only encounters with a name and a vector can be found, in order of their key.
    vectors = found.vectors()
    assert vectors.encounter_ids == ["a#0", "b#0"]
    assert vectors.individuals == ["O'Neill", "Aino"]
    assert vectors.fisher.dtype == np.float16
    np.testing.assert_array_equal(vectors.fisher, [vector(2), vector(1)])
    stored = {r["encounter_id"]: r for r in found.encounters.to_arrow().to_pylist()}
    assert (stored["b#0"]["taken_from"], stored["b#0"]["place"], stored["b#0"]["side"]) == (when, "Pyötikkö", "left")
    assert stored["d#0"]["fisher"] is None


def test_enrolling_again_replaces(gallery):
    gallery.enroll(rows(*({"encounter_id": f"{i}#0", "individual": "Aino", "fisher": vector(i)} for i in range(5))))
    first = {"encounter_id": "2#0", "individual": "Bo", "fisher": vector(9)}  # decided otherwise since
    gallery.enroll(rows(first, {"run": "other", "encounter_id": "2#0", "individual": "Aino", "fisher": vector(8)}))
    vectors = gallery.vectors()
    assert list(zip(vectors.runs, vectors.encounter_ids, vectors.individuals, strict=True)) == [
        ("other", "2#0", "Aino"),  # the same id in another run is another encounter
        ("r", "0#0", "Aino"), ("r", "1#0", "Aino"), ("r", "2#0", "Bo"), ("r", "3#0", "Aino"), ("r", "4#0", "Aino"),
    ]  # fmt: skip
    np.testing.assert_array_equal(vectors.fisher, [vector(i) for i in (8, 0, 1, 9, 3, 4)])
    assert gallery.counts()["individuals"] == 2


def test_an_empty_gallery(gallery):
    assert gallery.vectors().fisher.shape == (0, LENGTH)
    assert gallery.enroll(rows({"encounter_id": "a", "individual": "Aino"}).slice(0, 0)) == 0
    assert set(gallery.counts().values()) == {0}


def test_thumbnail_is_of_the_encounter_with_most_patches(gallery):
    gallery.enroll(
        rows(
            {"encounter_id": "a", "individual": "O'Neill", "n_patches": 3, "thumbnail": b"few"},
            {"encounter_id": "b", "individual": "O'Neill", "n_patches": 30, "thumbnail": b"many"},
            {"encounter_id": "c", "individual": "O'Neill", "n_patches": 99, "thumbnail": None},
            {"encounter_id": "d", "individual": "Aino", "n_patches": 99, "thumbnail": b"other"},
        )
    )
    assert gallery.thumbnail("O'Neill") == b"many"
    assert gallery.thumbnail("nobody") is None


@pytest.mark.parametrize(
    ("encounters", "message"),
    [
        ([{"encounter_id": "a", "individual": "unknown"}], "'unknown' is not the name"),
        ([{"encounter_id": "a", "individual": " NA "}], "' NA ' is not the name"),
        ([{"encounter_id": "a", "individual": ""}], "'' is not the name"),
        ([{"encounter_id": None, "individual": "Aino"}], "no run or no encounter_id"),
        ([{"encounter_id": "a", "run": ""}], "no run or no encounter_id"),
        ([{"encounter_id": "a"}, {"encounter_id": "a"}], "given twice"),
        ([{"encounter_id": "a", "fisher": vector(0, LENGTH - 2)}], "24 numbers, got .22."),
        ([{"encounter_id": "a", "fisher": vector(0) * np.float16(np.nan)}], "NaN or infinity"),
    ],
)
def test_bad_rows_are_refused_and_nothing_is_written(gallery, encounters, message):
    with pytest.raises(UserError, match=message):
        gallery.enroll(rows(*encounters))
    assert gallery.counts() == {"individuals": 0, "encounters": 0, "without_name": 0, "without_vector": 0}


def test_another_codebook(gallery):
    with pytest.raises(UserError, match=r"codebook cccccccccccc, .* to dddddddddddd.*another gallery"):
        Gallery.open(gallery.uri, replace(CODEBOOK, digest="d" * 64))


def test_no_gallery_there(tmp_path):
    with pytest.raises(UserError, match="no gallery at"):
        Gallery.open(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()  # looking must not make the folder
    with pytest.raises(UserError, match="no gallery at"):
        Gallery.open(str(tmp_path))  # a folder, but of something else


def test_a_gallery_is_not_made_twice(gallery):
    with pytest.raises(UserError, match="is a gallery already"):
        Gallery.create(gallery.uri, CODEBOOK)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="Cannot"):
        Gallery.create(str(tmp_path / "file"), CODEBOOK)


def test_an_unsaved_codebook_makes_no_gallery(tmp_path):
    with pytest.raises(ValueError, match="no digest"):
        Gallery.create(str(tmp_path / "g"), replace(CODEBOOK, digest=""))


def test_a_gallery_keeps_to_what_describes_its_key_points(tmp_path):
    """Its own weights, by a path that holds from anywhere; a file that changed since is refused, and so is none."""
    own = tmp_path / "own.safetensors"
    network = MarkNetwork(width=4)
    weights.save(own, "marks", {"network": {"width": 4}}, network.state_dict())
    made = Gallery.create(str(tmp_path / "g"), CODEBOOK, str(own))
    settings = Gallery.open(made.uri).verifying(VerifyConfig(chance=3))
    assert (settings.geometry.marks, settings.chance) == (str(own), 3)
    own.write_bytes(b"others")
    with pytest.raises(UserError, match=r"described by other weights .* Put the old file back, or enroll"):
        Gallery.open(made.uri)
    own.unlink()
    with pytest.raises(UserError, match="There is no weights file"):
        Gallery.open(made.uri)


def test_the_starter_describes_key_points_where_nothing_is_said(gallery):
    assert gallery.verifying(VerifyConfig()) == VerifyConfig()


def test_key_points_come_back_and_are_replaced(gallery):
    def crop(n: int) -> Features:
        rng = np.random.default_rng(n)
        at = rng.random((n, 2)).astype(np.float32)
        patches = Points(2 * at, rng.random((n, 16)).astype(np.float16)) if n else NO_PATCHES
        marks = Points(at, rng.integers(-127, 128, (n, 128), np.int8))
        return Features(marks, float(n), (float(n), 2.0), b"jpeg", patches)

    one, two = {"encounter_id": "a'b#0", "fisher": vector(1)}, {"encounter_id": "c#0", "fisher": vector(2)}
    gallery.enroll(rows(one, two), {"a'b#0": {"1": crop(3), "2": crop(0), "3": crop(5)}, "c#0": {"1": crop(2)}})
    gallery.enroll(rows(two), {"c#0": {"2": crop(4)}})  # fewer or other crops than before: none of the old ones stays
    found = gallery.features([("r", "c#0"), ("r", "nobody"), ("r", "a'b#0")])
    assert [[len(f.marks.at) for f in crops] for crops in found] == [[4], [], [3, 0, 5]]
    for n, f in ((4, found[0][0]), (3, found[2][0]), (5, found[2][2])):
        for kind in ("marks", "patches"):
            np.testing.assert_array_equal(f.points(kind).at, crop(n).points(kind).at)
            np.testing.assert_array_equal(f.points(kind).descriptors, crop(n).points(kind).descriptors)
        assert (f.side, f.corner, f.picture) == (n, (n, 2.0), b"jpeg")


def test_a_crop_of_another_animal_is_not_compared(gallery):
    marks = np.zeros((2, 128), np.uint8)
    crops = {i: Features(Points(np.full((2, 2), k, np.float32), marks), 9) for k, i in enumerate("xyz")}
    gallery.enroll(rows({"encounter_id": "a", "fisher": vector(1)}), {"a": crops})
    gallery.decide(Decision("other_animal", (("r", "a"),), instance_id="y"))
    assert [int(f.marks.at[0, 0]) for f in gallery.features([("r", "a")])[0]] == [0, 2]


def test_identity_follows_from_the_decisions(gallery):
    c = ("r", "c")
    gallery.enroll(rows(*({"encounter_id": e, "individual": n, "fisher": vector(ord(e))} for e, n in
                          (("a", "Aino"), ("b", "Bo"), ("c", None)))))  # fmt: skip
    made = gallery.decide(Decision("same", (c,), "Bo", shown=("Aino", "Bo"), by="Mia", reason="scar", weights="w"))
    assert gallery.vectors().individuals == ["Aino", "Bo", "Bo"]
    gallery.decide(Decision("merge", individual="Bo", other="Aino"))
    assert gallery.vectors().individuals == ["Aino"] * 3
    assert gallery.counts()["individuals"] == 1
    # The same table once more: Bo goes by the name of Aino now, so nothing is decided, and nothing is written.
    gallery.enroll(rows({"encounter_id": "b", "individual": "Bo", "fisher": vector(ord("b"))}))
    assert gallery.vectors().individuals == ["Aino"] * 3
    journal = Gallery.open(gallery.uri).decisions()  # all of it is there for who comes later
    assert [d.kind for d in journal] == ["new", "new", "same", "merge"]
    assert journal[2] == made[0]
    assert (journal[2].by, journal[2].shown, journal[2].encounters) == ("Mia", ("Aino", "Bo"), (c,))


def test_a_decision_on_an_encounter_that_is_not_there(gallery):
    gallery.enroll(rows({"encounter_id": "a", "individual": "Aino"}))
    with pytest.raises(UserError, match="has no encounter b of r"):
        gallery.decide(Decision("same", (("r", "b"),), "Aino"))
    assert len(gallery.decisions()) == 1


def test_the_same_decision_sent_twice_counts_once(gallery):
    gallery.enroll(rows({"encounter_id": "a"}))
    decision = Decision("new", (("r", "a"),), "Aino")
    assert len(gallery.decide(decision)) == 1
    assert gallery.decide(decision) == []
    assert len(gallery.decisions()) == 1


def test_many_deciders_at_once_lose_nothing(gallery):
    """Four processes, each with encounters of its own to enroll and to decide, all in the same store."""
    each = 15
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(4, context) as pool:
        list(pool.map(_decide, [gallery.uri] * 4, range(4), [each] * 4))
    assert gallery.counts()["encounters"] == 4
    decisions = gallery.decisions()
    assert len(decisions) == len({d.decision_id for d in decisions}) == 4 * (each + 1)
    found = gallery.catalogue()
    assert found.void == {}
    assert found.names == {("r", f"e{n}"): f"animal {n}" for n in range(4)}
    assert {d.reason for d in decisions if d.by == "2"} == {f"look {k}" for k in range(each)}


def _decide(uri: str, n: int, each: int) -> None:
    gallery = Gallery.open(uri)
    gallery.enroll(rows({"encounter_id": f"e{n}", "individual": f"animal {n}", "fisher": vector(n)}))
    for k in range(each):
        gallery.decide(Decision("same", (("r", f"e{n}"),), f"animal {n}", by=str(n), reason=f"look {k}"))


def test_a_killed_writer_leaves_whole_encounters(gallery):
    """SIGKILL in the middle of one enrolment after another: those that are there have all that they were given, and the
    same rows enrolled again complete the gallery."""
    before = some_rows(0, 3)
    gallery.enroll(before, some_crops(before))
    context = multiprocessing.get_context("spawn")
    for delay in (0.02, 0.15, 0.4):
        begun = context.Event()
        writer = context.Process(target=_enroll_for_ever, args=(gallery.uri, begun))
        writer.start()
        assert begun.wait(60)
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        found = Gallery.open(gallery.uri)
        keys = found.keys(["e0", "e1", "e2"])
        assert [len(crops) for crops in found.features(keys)] == [2, 2, 2]
        stored = found.encounters.to_arrow().to_pylist()
        assert len({(r["run"], r["encounter_id"]) for r in stored}) == len(stored)
        assert all(len(r["fisher"]) == LENGTH and r["code"] and len(r["crops"]) == 2 for r in stored)
        assert set(found.catalogue().names) <= {(r["run"], r["encounter_id"]) for r in stored}
    again = some_rows(0, 40)
    Gallery.open(gallery.uri).enroll(again, some_crops(again))
    assert Gallery.open(gallery.uri).counts()["without_vector"] == 0
    assert set(again["encounter_id"].to_pylist()) <= {e for _, e in gallery.catalogue().names}


def some_rows(first: int, count: int) -> pa.Table:
    numbers = range(first, first + count)
    return rows(*({"encounter_id": f"e{i}", "individual": f"animal {i}", "fisher": vector(i)} for i in numbers))


def some_crops(table: pa.Table) -> dict[str, dict[str, Features]]:
    rng = np.random.default_rng(0)  # what is drawn by chance cannot be compressed
    at = np.zeros((300, 2), np.float32)
    return {
        e: {i: Features(Points(at, rng.integers(0, 256, (300, 128), np.uint8)), 9.0) for i in "xy"}
        for e in table["encounter_id"].to_pylist()
    }


def _enroll_for_ever(uri: str, begun) -> None:
    gallery = Gallery.open(uri)
    for first in range(3, 10_000, 20):
        table = some_rows(first, 20)
        begun.set()
        gallery.enroll(table, some_crops(table))


def test_a_full_disk_leaves_the_gallery_as_it_was(gallery):
    """No file may grow beyond 256 KB, which the operating system refuses in the middle of a write."""
    before = some_rows(0, 3)
    gallery.enroll(before, some_crops(before))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        told = pool.submit(_enroll_on_a_full_disk, gallery.uri).result()
    assert "Cannot write to the gallery" in told
    assert "What was there is unharmed" in told
    found = Gallery.open(gallery.uri)
    assert found.counts() == {"individuals": 3, "encounters": 3, "without_name": 0, "without_vector": 0}
    assert [len(crops) for crops in found.features(found.keys(["e0", "e1", "e2"]))] == [2, 2, 2]
    more = some_rows(0, 30)
    found.enroll(more, some_crops(more))  # there is room again
    assert found.counts()["individuals"] == 30


def _enroll_on_a_full_disk(uri: str) -> str:
    gallery = Gallery.open(uri)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails then, instead of the process
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, 2**18))
    more = some_rows(0, 30)
    try:
        gallery.enroll(more, some_crops(more))
    except UserError as e:
        return str(e)
    return "it was written"


@pytest.mark.parametrize("found", ["5", "7", None])
def test_a_gallery_of_another_format(gallery, found):
    gallery._about.delete("key = 'format'")
    if found:
        gallery._about.add(pa.table({"key": ["format"], "value": [found]}))
    with pytest.raises(UserError, match=f"gallery format {found}; this version of Pusa reads 6. Enroll its animals"):
        Gallery.open(gallery.uri)


def test_two_who_give_one_name_to_two_animals(gallery):
    """Both looked before the other wrote: the second decision has no effect, and its maker is told."""
    gallery.enroll(rows({"encounter_id": "a"}, {"encounter_id": "b"}))
    slow = Gallery.open(gallery.uri)
    earlier = slow.decisions()
    first = gallery.decide(Decision("new", (("r", "a"),), "Aino"))[0]
    slow.decisions = lambda: earlier if len(Gallery.open(slow.uri).decisions()) == 1 else gallery.decisions()
    with pytest.raises(UserError, match="Somebody else was faster: The name 'Aino' is taken"):
        slow.decide(Decision("new", (("r", "b"),), "Aino", made_at=first.made_at + timedelta(seconds=1)))
    assert gallery.catalogue().names == {("r", "a"): "Aino"}


def test_a_conflict_is_tried_again_and_other_errors_are_not():
    calls = []

    def write(error: Exception) -> int:
        calls.append(error)
        if len(calls) < 3:
            raise error
        return len(calls)

    assert retried(lambda: write(RuntimeError("lance error: Commit conflict for version 7"))) == 3
    calls.clear()
    with pytest.raises(UserError, match="No space left on device What was there is unharmed"):
        retried(lambda: write(OSError("No space left on device")))
    assert len(calls) == 1
