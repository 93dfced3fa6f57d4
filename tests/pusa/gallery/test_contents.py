"""What a gallery knows to export: with its runs, without them, of several, and after decisions."""

import datetime as dt
import shutil

import made_gallery
import pyarrow as pa
import pytest
from made_gallery import NOON

from pusa import records
from pusa.deployments import Deployment
from pusa.exchange import Listed
from pusa.exchange.dataset import Photo
from pusa.gallery import sources
from pusa.gallery.contents import contents
from pusa.gallery.journal import Decision
from pusa.gallery.store import Gallery
from pusa.records import ENCOUNTERS

JUNE = {dt.date(2021, 6, d) for d in range(1, 31)}


@pytest.fixture
def run(tmp_path):
    return made_gallery.run(tmp_path / "run")


@pytest.mark.parametrize(("kept", "run_is_there"), [(True, True), (True, False), (False, True)])
def test_everything_with_the_run_or_without_it(tmp_path, run, kept, run_is_there):
    gallery = made_gallery.gallery(tmp_path / "g", run, kept=kept)
    if not run_is_there:
        shutil.rmtree(run.path)
    found = contents(gallery)
    assert found.notices == []
    assert found.root == "/archive"
    assert {e.encounter_id: (e.individual, e.place, sorted(e.sides)) for e in found.encounters} == {
        "north/1#0": ("Aino", "North", ["left"]), "north/1#1": ("Bo", "North", ["right"]),
        "north/2#0": ("Aino", "North", ["right"]), "north/2#1": (None, "North", ["unknown"]),
        "south/1#0": ("Bo", "South", ["right"]),
    }  # fmt: skip
    assert [i.instance_id for i in found.instances] == ["north1-0#0", "north1-1#0", "north1-1#1", "north2-0#0",
                                                        "north2-0#1", "south1-0#0"]  # fmt: skip
    first = found.instances[0]
    assert (first.box, first.side, first.score, first.individual) == ((10, 10, 50, 30), "left", 0.5, "Aino")
    assert first.mask["size"] == [40, 60]
    noon = dt.datetime(2021, 6, 3, 12)
    assert first.photo == Photo("north1-0", "north/1/0.JPG", 60, 40, "north/1", noon, "N", "ACME")
    # North says from when to when it was at work; South counts by its photos, with or without an animal
    assert {n: (e.days == JUNE, e.stated) for n, e in found.deployments.items()} == {
        "N": (True, True),
        "S": (False, False),
    }
    assert found.deployments["S"].days == {dt.date(2021, 6, 20), dt.date(2021, 6, 25)}


@pytest.mark.parametrize("kept", [True, False])
def test_a_flank_that_a_third_of_the_pictures_were_told_to_show_is_unknown(tmp_path, run, kept):
    """Aino in three pictures: two were told to show the left flank, one the right one."""
    table = run.read("photos")
    nested = records.instances(table)
    for instance in (i for row in nested for i in row):
        instance["side_probability"] = 0.9
    run.write("photos", records.with_instances(table, nested), "a")
    rows = run.read("encounters").to_pylist()
    rows[0]["instance_ids"] += ["north2-0#0"]
    run.write(
        "encounters", pa.Table.from_pylist([r for r in rows if r["encounter_id"] != "north/2#0"], ENCOUNTERS), "a"
    )
    found = contents(made_gallery.gallery(tmp_path / "g", run, kept=kept))
    assert [i.side for i in found.instances if i.encounter_id == "north/1#0"] == ["left", "left", "unknown"]
    (aino,) = [e for e in found.encounters if e.encounter_id == "north/1#0"]
    assert aino.sides == {"left", "unknown"}  # so she counts for the left flank alone


def test_a_run_that_went_before_it_was_kept_leaves_places_and_times(tmp_path, run):
    gallery = made_gallery.gallery(tmp_path / "g", run, kept=False)
    shutil.rmtree(run.path)
    found = contents(gallery)
    assert found.instances == []
    assert {(e.place, e.taken_from.day, *e.sides) for e in found.encounters if e.individual == "Bo"} == {
        ("North", 3, "right"), ("South", 20, "right")}  # fmt: skip
    assert "5 encounters have no photos here" in found.notices[0]


def test_decisions_decide(tmp_path, run):
    gallery = made_gallery.gallery(tmp_path / "g", run)
    key = lambda name: (run.key, name)  # noqa: E731
    gallery.decide(
        Decision("merge", individual="Bo", other="Aino", by="Mia"),
        Decision("not_animal", (key("north/2#1"),), by="Mia"),
        Decision("other_animal", (key("north/1#0"),), instance_id="north1-1#0", by="Mia"),
        Decision("split", (key("south/1#0"),), "Aino", "Cleo", by="Ulla"),
    )
    found = contents(Gallery.open(gallery.uri))
    assert {e.encounter_id: e.individual for e in found.encounters} == {
        "north/1#0": "Aino", "north/1#1": "Aino", "north/2#0": "Aino", "south/1#0": "Cleo"}  # fmt: skip
    assert [i.instance_id for i in found.instances if i.encounter_id == "north/1#0"] == ["north1-0#0"]
    assert {e.encounter_id: e.decided_by for e in found.encounters}["south/1#0"] == "Ulla"
    assert found.notices == ["1 crops that were taken out of their encounter are left out."]


def test_two_runs_keep_their_ids_and_paths_apart(tmp_path):
    runs = [made_gallery.run(tmp_path / y, f"/archive/{y}") for y in ("2020", "2021")]
    found = contents(made_gallery.gallery(tmp_path / "g", *runs))
    assert found.root == "/archive"
    assert {e.encounter_id for e in found.encounters} >= {"2020:north/1#0", "2021:north/1#0"}
    assert len({i.instance_id for i in found.instances}) == len(found.instances) == 12
    assert {p.path for p in found.photos} >= {"2020/north/1/0.JPG", "2021/north/1/0.JPG"}
    assert set(found.deployments) == {"N", "S"}  # the same in both
    assert found.notices == []


def test_two_runs_of_one_archive_show_an_animal_twice(tmp_path):
    runs = [made_gallery.run(tmp_path / y) for y in ("a", "b")]
    (notice,) = contents(made_gallery.gallery(tmp_path / "g", *runs)).notices
    assert notice.startswith(
        "4 photos (north/1/0.JPG (Aino), north/1/1.JPG (Aino, Bo), north/2/0.JPG (Aino), ...) show one"
    )


def test_deployments_given_later_take_the_place_of_the_runs(tmp_path, run):
    gallery = made_gallery.gallery(tmp_path / "g", run)
    found = contents(gallery, [Deployment("X", "north/1", "Cliff"), Deployment("Y", "north")])
    assert {e.encounter_id: (e.deployment_id, e.place) for e in found.encounters} == {
        "north/1#0": ("X", "Cliff"), "north/1#1": ("X", "Cliff"), "north/2#0": ("Y", "North"),
        "north/2#1": ("Y", "North"), "south/1#0": (None, "South")}  # fmt: skip
    assert found.deployments["X"].days == {dt.date(2021, 6, 3)}


def test_a_clock_shift_given_later_takes_the_place_of_the_runs(tmp_path):
    """North's clock was taken for an hour slow; it was a day fast. South's was not looked at."""
    run = made_gallery.run(tmp_path / "run", clock_shift=3600.0)
    gallery = made_gallery.gallery(tmp_path / "g", run)
    found = contents(gallery, [Deployment("N", "north", clock_shift=-86400.0), Deployment("S", "south")])
    seen = {e.encounter_id: e.taken_from for e in found.encounters}
    assert seen["north/1#0"] == dt.datetime(2021, 6, 2, 11)
    assert seen["south/1#0"] == dt.datetime(2021, 6, 20, 12)
    assert found.deployments["N"].days == {dt.date(2021, 6, 2), dt.date(2021, 6, 8)}


def test_camtrap_dp_says_itself_which_photo_is_of_which_deployment(tmp_path, run):
    gallery = made_gallery.gallery(tmp_path / "g", run)
    later = dt.datetime(2021, 6, 4)
    listed = {
        "north/1/0.JPG": Listed(later, "X"),
        "north/1/1.JPG": Listed(None, "X"),
        "south/1/0.JPG": Listed(None, "?"),
    }
    found = contents(gallery, [Deployment("X", None, "Cliff")], listed=listed)
    assert {p.path: (p.deployment_id, p.taken_at) for p in found.photos} == {
        "north/1/0.JPG": ("X", later), "north/1/1.JPG": ("X", NOON), "north/2/0.JPG": (None, NOON.replace(day=9)),
        "south/1/0.JPG": (None, NOON.replace(day=20))}  # fmt: skip


def test_enrolling_again_replaces_what_was_kept(tmp_path, run):
    gallery = made_gallery.gallery(tmp_path / "g", run)
    sources.keep(gallery, run, ["north/1#0"])
    assert len(contents(gallery).instances) == 6
    copy = made_gallery.gallery(tmp_path / "h", run, kept=False)
    sources.copy(gallery, copy)
    shutil.rmtree(run.path)
    assert contents(copy).instances == contents(gallery).instances
