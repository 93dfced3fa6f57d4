"""Camtrap DP: a package by hand, round trips, and what the standard forbids."""

import csv
import datetime as dt
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from made_dataset import DEPLOYMENTS, ENCOUNTERS, dataset, datasets, day, instance, shown

from pusa import exchange
from pusa.deployments import Deployment, read_deployments
from pusa.errors import UserError
from pusa.exchange import camtrap_dp, camtrap_dp_out
from pusa.exchange.dataset import Photo, effort
from pusa.sequences import SequenceConfig, Taken, sequence_ids

METADATA = {
    "title": "Seals",
    "contributors": [{"title": "Mia", "role": "contact"}],
    "project": {"title": "P", "samplingDesign": "targeted", "captureMethod": ["activityDetection"]},
    "taxonomic": [{"scientificName": "Pusa hispida"}],
}
CREATED = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
DECIDED = replace(ENCOUNTERS[0], decided_by="Mia", decided_at=CREATED, decision_id="d1", sides=frozenset({"left"}))


def package(data=None, **metadata):
    data = data or dataset([DECIDED], [instance(side="left", score=0.5)])
    return camtrap_dp_out.write(data, METADATA | metadata, CREATED)


def rows(files, table):
    return list(csv.DictReader(io.StringIO(files[f"{table}.csv"])))


def saved(files, folder):
    for name, text in files.items():
        (folder / name).write_text(text)
    return str(folder)


def test_a_package_by_hand():
    files, notices = package()
    assert notices == []
    for table in camtrap_dp.TABLES:
        assert files[f"{table}.csv"].splitlines()[0] == ",".join(camtrap_dp.columns(table))
    assert {k: v for k, v in rows(files, "deployments")[0].items() if v} == {
        "deploymentID": "B1", "locationID": "Bay", "locationName": "Bay", "latitude": "0.0", "longitude": "33.0",
        "deploymentStart": "2021-01-01T00:00:00+02:00", "deploymentEnd": "2021-01-31T23:59:56+02:00",
        "timestampIssues": "false", "deploymentTags": "timeZone:Europe/Helsinki",
    }  # fmt: skip
    assert [{k: v for k, v in row.items() if v} for row in rows(files, "media")] == [{
        "mediaID": "p1", "deploymentID": "C", "captureMethod": "activityDetection",
        "timestamp": "2021-02-10T12:00:00+02:00", "filePath": "a/IMG_1.JPG", "filePublic": "false",
        "fileName": "IMG_1.JPG", "fileMediatype": "image/jpeg",
    }]  # fmt: skip
    event, media = ({k: v for k, v in row.items() if v} for row in rows(files, "observations"))
    assert event == {
        "observationID": "a#0", "deploymentID": "C", "eventID": "a#0", "eventStart": "2021-02-10T12:00:00+02:00",
        "eventEnd": "2021-02-10T12:00:00+02:00", "observationLevel": "event", "observationType": "animal",
        "scientificName": "Pusa hispida", "count": "1", "individualID": "S1", "classificationMethod": "human",
        "classifiedBy": "Mia", "classificationTimestamp": "2026-01-02T03:04:05Z",
        "observationTags": "side:left | sequence:a | decision:d1",
    }  # fmt: skip
    # the box 1, 2, 3, 4 of a photo of 8 x 6
    assert media == {
        "observationID": "p1#0", "deploymentID": "C", "mediaID": "p1", "eventID": "a#0",
        "eventStart": "2021-02-10T12:00:00+02:00", "eventEnd": "2021-02-10T12:00:00+02:00", "observationLevel": "media",
        "observationType": "animal", "scientificName": "Pusa hispida", "count": "1", "individualID": "S1",
        "bboxX": "0.125", "bboxY": "0.3333333333333333", "bboxWidth": "0.25", "bboxHeight": "0.3333333333333333",
        "classificationMethod": "machine", "classifiedBy": "Pusa 0.1.0", "classificationProbability": "0.5",
        "observationTags": "side:left | sequence:a",
    }  # fmt: skip
    about = json.loads(files["datapackage.json"])
    assert about["created"] == "2026-01-02T03:04:05Z"
    assert about["temporal"] == {"start": "2021-01-01", "end": "2021-04-30"}
    assert about["spatial"]["coordinates"] == [[[33.0, 0.0], [33.0, 0.0], [33.0, 0.001], [33.0, 0.001], [33.0, 0.0]]]
    assert about["project"]["individualAnimals"] is True
    assert about["project"]["observationLevel"] == ["media", "event"]


def test_undecided_encounters_have_no_individual():
    files, _ = package(dataset([replace(DECIDED, individual=None)], [instance(individual=None)]))
    assert [row["individualID"] for row in rows(files, "observations")] == ["", ""]


def test_summer_time_and_no_time_zone():
    photo = Photo("p", "p.JPG", 8, 6, "a", day("2021-04-10"), "C")
    files, _ = package(dataset([DECIDED], [instance(photo=photo)]))
    assert rows(files, "media")[0]["timestamp"] == "2021-04-10T12:00:00+03:00"
    zoneless = {"C": replace(DEPLOYMENTS["C"], deployment=replace(DEPLOYMENTS["C"].deployment, time_zone=None))}
    files, notices = package(dataset([DECIDED], [instance(photo=photo)], deployments=zoneless))
    assert rows(files, "media")[0]["timestamp"] == "2021-04-10T12:00:00Z"
    assert rows(files, "deployments")[0]["timestampIssues"] == "true"
    assert "no time zone" in notices[0]


def test_deployments_without_stated_effort_take_that_of_their_photos():
    bare = effort(Deployment("C", "", None, 60.0, 30.0, "Europe/Moscow"), {dt.date(2021, 2, 10), dt.date(2021, 2, 12)})
    row = rows(package(dataset([DECIDED], [instance()], deployments={"C": bare}))[0], "deployments")[0]
    assert (row["deploymentStart"], row["deploymentEnd"]) == ("2021-02-10T00:00:00+03:00", "2021-02-12T23:59:59+03:00")
    assert row["deploymentComments"] == "start and end are the days of the first and last photo"


def test_photos_without_a_time_are_left_out_and_told():
    timeless = Photo("p2", "a/IMG_2.JPG", 8, 6, "a", None, "C")
    files, notices = package(dataset([DECIDED], [instance(), instance(photo=timeless)]))
    assert len(rows(files, "media")) == 1
    assert notices == ["1 photo (a/IMG_2.JPG) without a time are left out: Camtrap DP needs one."]


@pytest.mark.parametrize(("data", "metadata", "message"), [
    (None, {"contributors": []}, "only you know: contributors.*--metadata FILE"),
    (None, {"project": {"title": "P"}}, "project.samplingDesign, project.captureMethod"),
    (None, {"project": METADATA["project"] | {"samplingDesign": "random"}},
     "project.samplingDesign does not fit.*'random'"),
    (None, {"licenses": [{"name": "CC0-1.0", "scope": "data"}]}, "licenses does not fit"),
    (dataset([DECIDED]), {}, "needs photos; nothing is known of those behind"),
    (dataset([DECIDED], [instance()], deployments={}), {}, "deployment of every photo; 1 photo .*--deployments"),
    (dataset([DECIDED], [instance()], deployments={"C": effort(Deployment("C", ""), ())}), {},
     "latitude and longitude.*C has none"),
    (dataset([DECIDED], [instance(photo=Photo("p", "../p.JPG", 8, 6, "a", day("2021-02-10"), "C"))]), {},
     "filePath: expected text"),
])  # fmt: skip
def test_what_is_missing_is_named(data, metadata, message):
    with pytest.raises(UserError, match=message):
        package(data, **metadata)


@given(data=datasets())
def test_round_trip(tmp_path_factory, data):
    folder = saved(package(data)[0], tmp_path_factory.mktemp("package"))
    instances = exchange.read_instances(folder)
    found = {path: sorted(((g.identity, g.side, g.score) for g in mine), key=str) for path, mine in instances.items()}
    assert found == {path: sorted((row[:3] for row in mine), key=str) for path, mine in shown(data).items()}
    for i in data.instances:
        boxes = [
            tuple(g.box_in(i.photo.width, i.photo.height)) for g in instances[i.photo.path] if g.id == i.instance_id
        ]
        assert boxes == [pytest.approx(i.box, abs=1e-5)]
    photos = exchange.read_photos(f"{folder}/datapackage.json")
    assert {p: (x.taken_at, x.deployment_id, x.sequence_id) for p, x in photos.items()} == {
        p.path: (p.taken_at, p.deployment_id, p.sequence_id) for p in data.photos
    }
    kept = {d.deployment_id: (d.place, d.latitude, d.longitude, d.time_zone, d.start) for d in read_deployments(folder)}
    assert kept == {
        n: (
            e.deployment.place,
            e.deployment.latitude,
            e.deployment.longitude,
            e.deployment.time_zone,
            e.deployment.start,
        )
        for n, e in data.deployments.items()
    }


# --------------------------------------------------------------------------- packages of others

MEDIA = "mediaID,deploymentID,timestamp,filePath,filePublic,fileName,fileMediatype\n"
OBSERVATIONS = (
    "observationID,deploymentID,mediaID,eventID,eventStart,eventEnd,observationLevel,observationType,count,individualID,"
    "bboxX,bboxY,bboxWidth,bboxHeight\n"
)
AT = "2021-05-01T10:00:00+02:00"


def foreign(folder, media=f"m1,D,{AT},a.jpg,true,a.jpg,image/jpeg\n", observations="", **tables):
    resources = [
        {"name": t, "path": f"{t}.csv", "profile": "tabular-data-resource", "schema": f"{camtrap_dp.HOME}/{t}.json"}
        for t in camtrap_dp.TABLES
    ]
    files = {
        "datapackage.json": json.dumps(
            METADATA | {"resources": resources, "profile": camtrap_dp.HOME, "created": "2021-01-01T00:00:00Z",
                        "spatial": {"type": "Point", "coordinates": [30, 60]},
                        "temporal": {"start": "2021-01-01", "end": "2021-12-31"},
                        "project": METADATA["project"] | {"individualAnimals": True, "observationLevel": ["media"]}}
        ),
        "deployments.csv": "deploymentID,latitude,longitude,deploymentStart,deploymentEnd\n"
                           "D,60,30,2021-04-01T00:00:00+03:00,2021-06-01T00:00:00+03:00\n",
        "media.csv": MEDIA + media,
        "observations.csv": OBSERVATIONS + observations,
    } | tables  # fmt: skip
    return saved(files, folder)


def observation(name, media="m1", event="", level="media", kind="animal", start=AT, end=AT, count="1", individual="",
                box=",,,", deployment="D"):  # fmt: skip
    return f"{name},{deployment},{media},{event},{start},{end},{level},{kind},{count},{individual},{box}\n"


def test_events_that_share_a_photo_are_one_sequence(tmp_path):
    media = "".join(f"m{n},D,2021-05-01T10:00:0{n}+02:00,{n}.jpg,true,,image/jpeg\n" for n in range(1, 5))
    seen = [("o1", "m1", "e1"), ("o2", "m2", "e1"), ("o3", "m2", "e2"), ("o4", "m3", "e2"), ("o5", "m4", "e3")]
    folder = foreign(tmp_path, media, "".join(observation(*row) for row in seen))
    ids, notices = sequence_ids([Taken(f"{n}.jpg") for n in range(1, 5)], SequenceConfig(by="csv", csv=folder))
    assert (ids, notices) == (["e1", "e1", "e1", "e3"], [])


def test_humans_and_blanks_are_no_animals_and_photos_on_the_web_go_by_their_name(tmp_path):
    media = f"m1,D,{AT},https://x.org/1/file,true,a.jpg,image/jpeg\nm2,D,2021-05-01T08:00:00Z,b.jpg,true,,image/jpeg\n"
    seen = [observation("o1", kind="human", count=""), observation("o2", "m2", kind="blank", count=""),
            observation("o3", individual="Aino", box="0.1,0.2,0.3,0.4")]  # fmt: skip
    folder = foreign(tmp_path, media, "".join(seen))
    instances = exchange.read_instances(folder)
    assert {path: [g.identity for g in found] for path, found in instances.items()} == {"a.jpg": ["Aino"], "b.jpg": []}
    assert instances["a.jpg"][0].box == pytest.approx((0.1, 0.2, 0.4, 0.6))
    times = {path: p.taken_at for path, p in exchange.read_photos(folder).items()}
    # b's time is in UTC: local as the deployment's offset says
    assert times == {"a.jpg": dt.datetime(2021, 5, 1, 10), "b.jpg": dt.datetime(2021, 5, 1, 11)}


def test_events_of_one_animal_name_their_photos_where_no_media_are_observed(tmp_path):
    media = "".join(f"m{h},D,2021-05-01T{h}:30:00+02:00,{h}.jpg,true,,image/jpeg\n" for h in (10, 11, 12))
    event = {"media": "", "level": "event"}
    seen = [
        observation("o1", **event, event="e1", start=AT, end="2021-05-01T11:00:00+02:00", individual="Aino"),
        *(observation(f"o{n}", **event, event="e2", start="2021-05-01T11:10:00+02:00", end="2021-05-01T11:50:00+02:00",
                      individual=name) for n, name in enumerate(("Bo", "Cleo"), 2)),  # nobody knows which is where
    ]  # fmt: skip
    instances = exchange.read_instances(foreign(tmp_path, media, "".join(seen)))
    assert {p: [(g.identity, g.whole) for g in found] for p, found in instances.items()} == {
        "10.jpg": [("Aino", True)], "11.jpg": [], "12.jpg": []}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), [
    ({"media": f"m1,D,{AT},a.jpg,true,,image/jpeg\nm1,D,{AT},b.jpg,true,,image/jpeg\n"},
     r"media.csv, line 3, column mediaID: expected unique values, found 'm1' again \(first in line 2\)"),
    ({"media": "m1,D,2021-05-01T10:00:00,a.jpg,true,,image/jpeg\n"},
     "line 2, column timestamp: expected a time with its offset from UTC, such as .*found '2021-05-01T10:00:00'"),
    ({"media": "m1,D,yesterday,a.jpg,true,,image/jpeg\n"}, "expected a time such as .*, found 'yesterday'"),
    ({"media": f"m1,X,{AT},a.jpg,true,,image/jpeg\n"},
     "media has the deploymentID 'X', which the table deployments does not"),
    ({"media": f"m1,D,{AT},a.jpg,maybe,,image/jpeg\n"}, "column filePublic: expected true or false, found 'maybe'"),
    ({"media": f"m1,D,{AT},,true,,image/jpeg\n"}, "column filePath: expected a value, it is empty"),
    ({"observations": observation("o", box="0.9,0.2,0.3,0.4")}, "fractions from 0 to 1"),  # from 0.9 to 1.2
    ({"observations": observation("o", box="1.2,0.2,0.3,0.4")}, "column bboxX: expected at most 1, found '1.2'"),
    ({"observations": observation("o", count="two")}, "column count: expected a whole number, found 'two'"),
    ({"observations": observation("o", kind="cat")}, r"observationType: expected one of \['animal', .*found 'cat'"),
    ({"observations": observation("o", media="")}, "expected a mediaID with observations of the level media"),
    ({"observations": observation("o", level="event")}, "expected a mediaID with observations of the level media"),
    ({"observations": observation("o", end="2021-05-01T09:00:00+02:00")}, "ends before it starts"),
    ({"observations": observation("o1", individual="A") + observation("o2", individual="A")},
     r"expected an individual once in a photo, found A 2 times in a.jpg \(ids o1, o2\)"),
    ({"deployments.csv": "deploymentID,latitude,deploymentStart,deploymentEnd\n"},
     "column `longitude` is missing. Found: deploy"),
    ({"datapackage.json": "{}"}, "expected a data package with resources"),
    ({"datapackage.json": "{"}, "not valid JSON"),
    ({"datapackage.json": json.dumps({"resources": [{"name": "media", "path": "https://x.org/media.csv"}]})},
     "expected a resource `deployments` with the path of one CSV beside it, found None"),
])  # fmt: skip
def test_bad_packages(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        exchange.read_instances(foreign(tmp_path, **change))


def test_a_table_that_is_not_there(tmp_path):
    folder = foreign(tmp_path)
    (tmp_path / "media.csv").unlink()
    with pytest.raises(UserError, match=r"Cannot read .*media\.csv"):
        exchange.read_instances(folder)
