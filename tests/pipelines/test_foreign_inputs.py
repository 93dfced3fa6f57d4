"""What other programs' files give the index and the gallery: times, deployments, sequences, names."""

import datetime as dt
import io

import made_gallery
import pytest
from made_dataset import dataset, day, instance
from PIL import Image

from pipelines.index import IndexConfig, index
from pusa import exchange
from pusa.errors import UserError
from pusa.exchange import camtrap_dp_out, coco, megadetector, wildlife_datasets
from pusa.exchange.dataset import Encounter, Photo
from pusa.gallery.contents import contents
from pusa.records import Run
from pusa.sequences import SequenceConfig
from pusa.truth import encounter_names

METADATA = {
    "contributors": [{"title": "Mia"}],
    "project": {"title": "P", "samplingDesign": "targeted", "captureMethod": ["timeLapse"]},
    "taxonomic": [{"scientificName": "Pusa hispida"}],
}


@pytest.fixture
def archive(tmp_path):
    """Three photos whose cameras tell no time."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6)).save(buffer, "JPEG")
    folder = tmp_path / "archive"
    folder.mkdir()
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        (folder / name).write_bytes(buffer.getvalue())
    return folder


@pytest.fixture
def data():
    """1 and 2 are a sequence, 3 is not in it."""
    times = (day("2021-02-10"), day("2021-02-10") + dt.timedelta(minutes=5), None)
    photos = [Photo(f"p{n}", f"{n}.jpg", 8, 6, "s1", time, "C") for n, time in enumerate(times, 1)]
    encounters = [Encounter("a#0", "s1", frozenset({"left"}), "S1", times[0], times[1], "Cape", "C")]
    return dataset(encounters, [instance(photo=p, side="left") for p in photos[:2]])


def rows(archive, tmp_path, **config):
    notices = index(str(archive), str(tmp_path / "run"), IndexConfig(**config)).notices
    table = Run(str(tmp_path / "run")).read("index", ["path", "taken_at", "deployment_id", "sequence_id"])
    return sorted(tuple(row.values()) for row in table.to_pylist()), notices


def test_camtrap_dp_gives_times_deployments_and_sequences(tmp_path, archive, data):
    for name, text in camtrap_dp_out.write(data, METADATA)[0].items():
        (archive / name).write_text(text)
    found, notices = rows(archive, tmp_path, deployments=str(archive),
                          sequences=SequenceConfig(by="csv", csv=str(archive / "datapackage.json")))  # fmt: skip
    assert found == [
        ("1.jpg", dt.datetime(2021, 2, 10, 12), "C", "s1"),
        ("2.jpg", dt.datetime(2021, 2, 10, 12, 5), "C", "s1"),
        ("3.jpg", None, None, "3.jpg"),
    ]
    assert any("not in" in n and "3.jpg" in n for n in notices)
    deployments = Run(str(tmp_path / "run")).read("deployments").to_pylist()
    assert [(d["deployment_id"], d["place"]) for d in deployments] == [("B1", "Bay"), ("B2", "Bay"), ("C", "Cape")]
    assert {d["time_zone"] for d in deployments} == {"Europe/Helsinki"}


def test_a_table_of_wildlife_datasets_gives_times_and_sequences(tmp_path, archive, data):
    (tmp_path / "t.csv").write_text(wildlife_datasets.write(data))
    found, _ = rows(archive, tmp_path, sequences=SequenceConfig(by="csv", csv=str(tmp_path / "t.csv")))
    assert [row[:2] + row[3:] for row in found] == [
        ("1.jpg", dt.datetime(2021, 2, 10, 12), "s1"), ("2.jpg", dt.datetime(2021, 2, 10, 12, 5), "s1"),
        ("3.jpg", None, "3.jpg")]  # fmt: skip


def test_times_of_given_instances_cut_sequences(tmp_path, archive, data):
    (tmp_path / "t.csv").write_text(wildlife_datasets.write(data))
    config = IndexConfig(sequences=SequenceConfig(by="gap", gap="2min"))
    index(str(archive), str(tmp_path / "run"), config, given=str(tmp_path / "t.csv"))
    found = Run(str(tmp_path / "run")).read("index", ["path", "sequence_id"]).to_pylist()
    assert sorted((row["path"], row["sequence_id"]) for row in found) == [
        ("1.jpg", ".@2021-02-10T12-00-00"), ("2.jpg", ".@2021-02-10T12-05-00"), ("3.jpg", ".")]  # fmt: skip


def test_files_without_sequences_are_told(tmp_path, archive):
    (tmp_path / "t.csv").write_text("image_id,identity,path\n1,A,1.jpg\n")
    with pytest.raises(UserError, match=r"expected sequences \(a column sequence_id or video\), found none. --gap"):
        rows(archive, tmp_path, sequences=SequenceConfig(by="csv", csv=str(tmp_path / "t.csv")))


@pytest.mark.parametrize("form", ["coco", "megadetector", "wildlife-datasets", "camtrap-dp"])
def test_names_that_went_out_come_in(tmp_path, form):
    """A gallery's names, exported, name the encounters of the same photos processed anew."""
    import json

    made = made_gallery.run(tmp_path / "run")
    found = contents(made_gallery.gallery(tmp_path / "g", made))
    file = tmp_path / ("out.csv" if form == "wildlife-datasets" else "out.json")
    if form == "camtrap-dp":
        file = tmp_path
        for name, text in camtrap_dp_out.write(found, METADATA)[0].items():
            (tmp_path / name).write_text(text)
    elif form == "wildlife-datasets":
        file.write_text(wildlife_datasets.write(found))
    else:
        file.write_text(json.dumps({"coco": coco, "megadetector": megadetector}[form].write(found)))
    assert encounter_names(made, str(file)) == {e: n for e, n in made_gallery.NAMES.items() if n}


def test_an_encounter_with_two_names(tmp_path):
    made = made_gallery.run(tmp_path / "run")
    (tmp_path / "n.csv").write_text("encounter_id,individual\nnorth/1#0,Aino\nnorth/1#0,Bo\n")
    with pytest.raises(UserError, match=r"line 3: expected one individual an encounter, found 'Bo' for north/1#0"):
        encounter_names(made, str(tmp_path / "n.csv"))


def test_names_of_several_runs(tmp_path):
    """The same places and days in two runs: an encounter_id may be in both."""
    made = made_gallery.run(tmp_path / "run")
    (tmp_path / "n.csv").write_text(
        f"run,encounter_id,individual\nelsewhere,north/1#0,Bo\nelsewhere,far/9#0,Cid\n{made.key},north/1#0,Aino\n"
    )
    assert encounter_names(made, str(tmp_path / "n.csv")) == {"north/1#0": "Aino"}
    # Processed into another folder, as with `pusa process --from`: no row has this run, and all count.
    (tmp_path / "n.csv").write_text("run,encounter_id,individual\nelsewhere,north/1#0,Aino\n")
    assert encounter_names(made, str(tmp_path / "n.csv")) == {"north/1#0": "Aino"}


def test_a_digest_changes_with_tables_and_pictures(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "sub").mkdir()
    seen = {exchange.digest(str(tmp_path))}
    (tmp_path / "sub" / "1.png").write_bytes(b"picture")
    seen.add(exchange.digest(str(tmp_path)))
    (tmp_path / "a.csv").write_text("x\n2\n")
    seen.add(exchange.digest(str(tmp_path)))
    assert len(seen) == 3
    assert exchange.digest(str(tmp_path)) in seen
