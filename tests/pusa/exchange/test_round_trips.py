"""COCO, MegaDetector and wildlife-datasets: files by hand, and whatever goes out comes back."""

import json

import numpy as np
import pytest
from hypothesis import given
from made_dataset import dataset, datasets, day, given_shown, instance, shown

from pusa import exchange
from pusa.errors import UserError
from pusa.exchange import coco, megadetector, wildlife_datasets
from pusa.exchange.dataset import Photo
from pusa.segmentation import masks

# The mask of `instance`: rows 2 and 3 of columns 1 and 2, on 8 x 6 pixels. Column-major: 6 + 2 pixels of background, 2
# of the animal, 4, 2, and 32 to the end. From the fourth on less the last but one: 2 - 2 = 0, 32 - 4 = 28. As letters
# of 5 bits + 48; 28 would be negative in one, so it has 32 added ("l") and a second one.
COUNTS = "8" + "2" + "4" + "0" + "l0"
TWO = Photo("p2", "a/IMG_2.JPG", 8, 6, "a", None, None)


def two():
    return dataset((), [instance(score=0.25, side="left"), instance(photo=TWO, individual=None, mask=None)])


def test_coco_by_hand():
    content = coco.write(two(), "ringed seal")
    assert content["categories"] == [{"id": 1, "name": "ringed seal", "supercategory": "animal"}]
    assert content["licenses"] == []
    assert content["images"] == [
        {"id": 1, "file_name": "a/IMG_1.JPG", "width": 8, "height": 6, "date_captured": "2021-02-10 12:00:00",
         "sequence_id": "a", "deployment_id": "C"},
        {"id": 2, "file_name": "a/IMG_2.JPG", "width": 8, "height": 6, "sequence_id": "a"},  # no date is invented
    ]  # fmt: skip
    assert content["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1.0, 2.0, 2.0, 2.0], "area": 4,
         "segmentation": {"size": [6, 8], "counts": COUNTS}, "iscrowd": 0, "score": 0.25, "identity": "S1",
         "side": "left", "encounter_id": "a#0", "instance_id": "p1#0"},
        {"id": 2, "image_id": 2, "category_id": 1, "bbox": [1.0, 2.0, 2.0, 2.0], "area": 4.0, "iscrowd": 0,
         "encounter_id": "a#0", "instance_id": "p2#0"},
    ]  # fmt: skip
    assert masks.decode({"size": [6, 8], "counts": COUNTS}).nonzero()[0].tolist() == [2, 2, 3, 3]


def test_megadetector_by_hand():
    content = megadetector.write(two())
    assert content["info"]["format_version"] == "1.6"
    assert content["detection_categories"] == {"1": "animal", "2": "person", "3": "vehicle"}
    third = 0.3333333333333333
    assert content["images"] == [
        {"file": "a/IMG_1.JPG", "detections": [
            {"category": "1", "conf": 0.25, "bbox": [0.125, third, 0.25, third], "pusa": {
                "instance_id": "p1#0", "encounter_id": "a#0", "individual": "S1", "side": "left",
                "mask": {"size": [6, 8], "counts": COUNTS}}}]},
        {"file": "a/IMG_2.JPG", "detections": [
            {"category": "1", "conf": 1.0, "bbox": [0.125, third, 0.25, third],
             "pusa": {"instance_id": "p2#0", "encounter_id": "a#0", "scored": False}}]},
    ]  # fmt: skip
    assert '"conf": 1.0' in json.dumps(content)  # never 1: readers want a decimal point


def test_wildlife_datasets_by_hand():
    assert wildlife_datasets.write(two(), "Pusa hispida") == (
        "image_id,identity,path,bbox,date,orientation,segmentation,species,encounter_id,sequence_id,deployment_id\n"
        'p1#0,S1,a/IMG_1.JPG,"[1.0, 2.0, 2.0, 2.0]",2021-02-10 12:00:00,left,'
        f'"{{""size"": [6, 8], ""counts"": ""{COUNTS}""}}",Pusa hispida,a#0,a,C\n'
        'p2#0,unknown,a/IMG_2.JPG,"[1.0, 2.0, 2.0, 2.0]",,,,Pusa hispida,a#0,a,\n'
    )


@given(datasets())
def test_coco_comes_back(data):
    instances = coco.read(json.loads(json.dumps(coco.write(data))), "f.json")
    assert given_shown(instances) == shown(data)
    assert {g.box for found in instances.values() for g in found} == {i.box for i in data.instances}


@given(datasets())
def test_megadetector_comes_back(data):
    instances = megadetector.read(json.loads(json.dumps(megadetector.write(data))), "f.json")
    assert given_shown(instances) == shown(data)
    for i in data.instances:
        (g,) = (g for g in instances[i.photo.path] if g.id == i.instance_id)
        assert tuple(g.box_in(i.photo.width, i.photo.height)) == pytest.approx(i.box, abs=1e-5)


@given(data=datasets())
def test_wildlife_datasets_comes_back(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("table") / "metadata.csv"
    file.write_text(wildlife_datasets.write(data))
    instances, photos = wildlife_datasets.read(str(file))
    scoreless = {
        path: sorted(((a, b, None, d) for a, b, _, d in found), key=str) for path, found in shown(data).items()
    }
    assert given_shown(instances) == scoreless  # the table has no column for the detector's score
    assert {p: (x.taken_at, x.deployment_id, x.sequence_id) for p, x in photos.items()} == {
        p.path: (p.taken_at, p.deployment_id, p.sequence_id) for p in data.photos
    }


# --------------------------------------------------------------------------- tables of others


def table(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    return str(tmp_path / "t.csv")


def test_a_table_with_only_the_required_columns(tmp_path):
    path = table(tmp_path, "image_id,identity,path\n1,7,x/a.jpg\n2,unknown,b.jpg\n")
    assert exchange.kind_of(path) == "wildlife-datasets"
    instances = exchange.read_instances(path)
    assert {p: [(g.identity, g.whole, g.side) for g in found] for p, found in instances.items()} == {
        "x/a.jpg": [("7", True, "unknown")], "b.jpg": [(None, True, "unknown")]}  # fmt: skip
    assert exchange.read_photos(path)["b.jpg"] == exchange.Listed()


@pytest.mark.parametrize("column", ["orientation", "position"])  # the documentation says one, the code the other
def test_sides_and_masks_in_all_their_forms(tmp_path, column):
    import cv2

    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 1:3] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    square = "[1, 2, 3, 2, 3, 4, 1, 4]"
    path = table(tmp_path, f"image_id;identity;path;segmentation;{column};video\n"
                           f"1;A;a.jpg;{square};Left;4\n2;B;b.jpg;m.png;frontleft;4\n"
                           f'3;C;c.jpg;{{"size": [6, 8], "counts": "{COUNTS}"}};right;\n')  # fmt: skip
    found = [g.with_mask(6, 8) for (g,) in exchange.read_instances(path).values()]
    assert [g.side for g in found] == ["left", "unknown", "right"]
    assert [g.mask["counts"] for g in found] == [COUNTS] * 3
    assert [g.box for g in found[:2]] == [(1, 2, 3, 4)] * 2
    assert [p.sequence_id for p in exchange.read_photos(path).values()] == ["4", "4", None]


@pytest.mark.parametrize(("text", "message"), [
    ("identity,path\nA,a.jpg\n",
     "column `image_id` is missing. Found: identity, path. Expected: image_id, identity, path"),
    ("image_id,identity,path\n1,A,a.jpg\n1,B,b.jpg\n",
     r"line 3: expected image_ids that are unique, found 1 again \(line 2\)"),
    ("image_id,identity,path\n1,A,a.jpg\n2,A,a.jpg\n",
     r"expected an individual once in a photo, found A 2 times in a.jpg \(ids"),
    ("image_id,identity,path,bbox\n1,A,a.jpg,here\n", "column bbox: expected JSON such as .*found here"),
    ("image_id,identity,path,bbox\n1,A,a.jpg,[]\n", "the list is empty"),
    ('image_id,identity,path,bbox\n1,A,a.jpg,"[1, 2, 0, 4]"\n', "size above 0"),
    ("image_id,identity,path,date\n1,A,a.jpg,May 1st\n",
     "column date: expected a date like 2021-05-01 10:30:00, found 'May 1st'"),
    ("image_id,identity,path,date\n1,A,a.jpg,2021-05-01\n2,B,a.jpg,2021-05-02\n",
     "line 3: expected what the rows of a.jpg before"),
    ("image_id,identity,path\n1,A,\n", "expected an image_id and a path"),
    ("photo,name\na.jpg,A\n", "expected the columns of a wildlife-datasets table .*found photo, name"),
])  # fmt: skip
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        exchange.read_instances(table(tmp_path, text))


@pytest.mark.parametrize(("bbox", "fits"), [
    ([0, 0, 100, 50], True),
    ([-0.9, 0, 101.8, 50], True),  # rounded outwards
    ([60, 0, 50, 50], False),
    ([0, 40, 10, 20], False),
    ([-20, 0, 30, 50], False),
    ([300, 200, 30, 30], False),  # of a larger version of the photo
])  # fmt: skip
def test_boxes_outside_of_their_photo(bbox, fits):
    content = {"images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}],
               "annotations": [{"id": 5, "image_id": 1, "bbox": bbox}]}  # fmt: skip
    if fits:
        assert len(coco.read(content, "f.json")["a.jpg"]) == 1
        return
    with pytest.raises(
        UserError, match=r"annotation 5 of a\.jpg: expected a box within its photo of 100 x 50 pixels, found"
    ):
        coco.read(content, "f.json")


def test_two_animals_of_one_photo_with_one_name():
    found = [{"id": n, "image_id": 1, "bbox": [n, 0, 5, 5], "identity": "A"} for n in (1, 2)]
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": found}
    with pytest.raises(UserError, match=r"found A 2 times in a\.jpg \(ids 1, 2\). Correct a name"):
        coco.read(content, "f.json")


def test_the_day_of_a_photo_taken_with_fractions_of_a_second():
    photo = Photo("p", "a.jpg", 8, 6, "a", day("2021-02-10").replace(microsecond=250000))
    text = wildlife_datasets.write(dataset((), [instance(photo=photo)]))
    assert "2021-02-10 12:00:00.250" in text
