"""Places seen in photos, on a run of three photos that is made by hand: Anna twice, Bert once."""

import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pusa import photos, records
from pusa.embedding import seen, train
from pusa.errors import UserError
from pusa.pattern.patches import SIZE
from pusa.records import Run
from pusa.segmentation import masks

W, H = 256, 128  # of photos, animals and patterns: an animal fills its photo
MIDDLES = [(58, 64), (198, 64)]  # of the patches, in photo pixels: in the middle of places 4 and 15, s = .225 and .775


@pytest.fixture
def folder(tmp_path):
    """run/ and archive/. s grows from 0 to 1 along x, theta is 0.5 everywhere; white circles lie round the middles."""
    rng = np.random.default_rng(0)
    surface = np.zeros((H // 2, W // 2, 3), np.uint8)
    surface[..., 0] = np.arange(W // 2) * 255 // (W // 2)
    surface[..., 1] = round(255 * (seen.AROUND // 2 + 0.5) / seen.AROUND)
    surface[..., 2] = 255
    for name in ("surface", "rings"):
        (tmp_path / "archive" / "truth" / name).mkdir(parents=True)
    rows, annotations = [], []
    for k, (name, circles) in enumerate([("Anna", 0), ("Anna", 0), ("Bert", 1)], 1):
        pattern = rng.random((H, W)) < 0.02
        if circles == 0:
            for x, y in MIDDLES:
                pattern[y - 20 : y + 20, x - 20 : x + 20] = True
        whole = np.ones((H, W), bool)
        boxes = [[x - SIZE / 2, y - SIZE / 2, x + SIZE / 2, y + SIZE / 2] for x, y in MIDDLES]
        instance = records.new_instance(
            f"p{k}#0", box=np.array([0, 0, W, H]), mask=masks.encode(whole), crop_box=(0, 0, W, H), score=1.0
        )
        instance |= {"pattern": photos.encode_mask_png(pattern), "patch_boxes": boxes, "usable": True}
        row = {f.name: None for f in records.PHOTOS}
        row |= {"photo_id": f"p{k}", "path": f"{k}.jpg", "sequence_id": str(k), "status": "ok", "instances": [instance]}
        rows.append(row)
        rle = {"size": [H, W], "counts": [0, H * W]}
        annotations.append({"id": k, "image_id": k, "category_id": 1, "bbox": [0, 0, W, H], "area": W * H,
                            "segmentation": rle, "iscrowd": 0, "identity": name})  # fmt: skip
        Image.fromarray(surface).save(tmp_path / "archive" / "truth" / "surface" / f"{k}.png")
        rings = pattern if k == 1 else ~pattern  # of the second photo nothing was extracted as it is
        (tmp_path / "archive" / "truth" / "rings" / f"{k}.png").write_bytes(photos.encode_mask_png(rings))
    images = [{"id": k, "file_name": f"{k}.jpg", "width": W, "height": H} for k in (1, 2, 3)]
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "seal"}]}
    (tmp_path / "archive" / "truth" / "instances.json").write_text(json.dumps(coco))
    run = Run(str(tmp_path / "run"))
    run.write("photos", pa.Table.from_pylist(rows, records.PHOTOS), "00000")
    run.write_manifest({"archive": str(tmp_path / "archive" / "photos")})
    return tmp_path


def test_a_class_is_a_place_of_one_animal_in_two_photos(folder):
    """Both of Anna's places are classes, with a member in sequence 1 and one in 2; Bert is in one only.

    Each sequence has one photo here: patterns 0 and 1 are the true and the extracted one of the first, 2 and 3 of the
    second, where the extracted one is wrong and left out.
    """
    places = seen.read(Run(str(folder / "run")), folder / "archive")
    assert len(places) == 2
    assert [[m[:, 0].tolist() for m in of_place] for of_place in places.members] == [[[0, 1], [2]], [[0, 1], [2]]]
    x, y = MIDDLES[0]
    assert places.members[0][0][0, 1:].tolist() == [1.5 * x, 1.5 * y]  # of a pattern 1.5 times as large
    member = places.member(0, 0, np.random.default_rng(0), 0)
    assert member.shape == (SIZE, SIZE)
    assert member[14:50, 14:50].all()  # the square of 40 px round the middle, 12 to 52
    assert member.mean() == pytest.approx((40 / SIZE) ** 2, abs=0.05)
    assert not places.member(0, 1, np.random.default_rng(0), 0)[14:50, 14:50].any()  # the next sequence


@pytest.mark.parametrize(
    ("s", "theta", "expected"),
    [
        (0.025, 0.5 / seen.AROUND, (0, 0)),  # the middle of the first place
        (0.05, 0.5 / seen.AROUND, None),  # half way to the next one
        (0.075, 1.5 / seen.AROUND, (1, 1)),
        (0.075, 1.0 / seen.AROUND, None),
        (np.nan, 0.5, None),  # not on an animal
    ],
)
def test_cells(s, theta, expected):
    assert seen.cell_of(s, theta) == expected


def test_places_may_not_be_where_no_animal_comes_back(folder):
    file = folder / "archive" / "truth" / "instances.json"
    file.write_text(file.read_text().replace('"identity": "Anna"', '"identity": "Anna 1"', 1))
    with pytest.raises(UserError, match="shows no place of an animal"):
        seen.read(Run(str(folder / "run")), folder / "archive")


def test_training_on_what_was_seen(folder):
    """With and without drawn coats; validation counts in other photos: of Anna's patches each has one answer."""
    pair = (folder / "run", folder / "archive")
    tiny = {"network": {"width": 8}, "steps": 2, "epoch_steps": 2, "batch": 4, "workers": 0, "versions": 2,
            "device": "cpu", "out": folder / "e.safetensors", "seen": (pair,), "validation": (pair,)}  # fmt: skip
    reports = []
    train.loop(train.EmbeddingTraining(coats=0, **tiny), lambda m, c: reports.append(m))
    assert 0 <= reports[0]["photos_recall@1"] <= 1
    places = train.places_of(train.EmbeddingTraining(coats=2, seen_share=0.25, **tiny))
    drawn = len(places.sources[0])
    assert len(places) == drawn + 2
    rng = np.random.default_rng(0)
    assert np.mean([places.pick(rng) >= drawn for _ in range(1000)]) == pytest.approx(0.25, abs=0.05)
    assert places.member(drawn + 1, 0, rng, 0)[14:50, 14:50].all()


def test_agreement_by_hand():
    """Bars of 6 px, 400 px apart: 3 px beside counts as right (the tolerance at this scale), 4 px does not."""
    true = np.zeros((96, 800), bool)
    true[:, 45:51] = true[:, 445:451] = True
    middles = np.array([[48, 48], [448, 48]])
    found = np.zeros_like(true)
    found[:, 45:51] = True  # right in the first patch, nothing in the second
    assert seen.agreement(found, true, middles).tolist() == pytest.approx([1, 0])
    found[:, 452:458] = True  # of its 6 columns those at distances 2 and 3 from column 450; of the true, 449 and 450
    assert seen.agreement(found, true, middles).tolist() == pytest.approx([1, 1 / 3], abs=0.01)


def test_true_rings_are_drawn_as_thick_as_extracted_ones():
    thin = np.zeros((60, 60), bool)
    thin[:, 29:31] = True
    assert seen.thickened(thin).sum(axis=1).tolist() == [6] * 60
    assert not seen.thickened(np.zeros((5, 5), bool)).any()


def test_triplets_are_learnt_from_too(folder):
    pair = (folder / "run", folder / "archive")
    reports = []
    config = train.EmbeddingTraining(
        coats=2, versions=2, network={"width": 8}, steps=2, epoch_steps=2, batch=8, workers=0, device="cpu",
        pretraining=0, loss="triplet", validation_places=0, out=folder / "t.safetensors", seen=(pair,),
    )  # fmt: skip
    train.loop(config, lambda m, c: reports.append(m))
    assert reports[0]["loss"] >= 0


def test_nothing_to_learn_from():
    with pytest.raises(UserError, match="nothing to learn from"):
        train.places_of(train.EmbeddingTraining(coats=0))


def test_grey_patches_have_one_member_a_photo(folder):
    """Without patterns, members come from the grey crops, whose squares are dark on light."""
    run = Run(str(folder / "run"))
    table = run.read("photos")
    nested = records.instances(table)
    for (instance,) in nested:
        pixels = np.full((H, W, 3), 200, np.uint8)
        for x, y in MIDDLES:
            pixels[y - 20 : y + 20, x - 20 : x + 20] = 50
        instance |= {"pattern": None, "crop": photos.encode_jpeg(pixels)}
    run.write("photos", records.with_instances(table, nested), "00000")
    places = seen.read(run, folder / "archive")
    assert places.grey
    assert [[m[:, 0].tolist() for m in of_place] for of_place in places.members] == [[[0], [1]], [[0], [1]]]
    member = places.member(0, 0, np.random.default_rng(0), 0)
    assert member.dtype == np.float32
    assert 0 <= member.min() < member[32, 32] + 0.1 < member[4, 4] <= member.max() <= 1
    with pytest.raises(UserError, match="together with patterns"):
        train.places_of(train.EmbeddingTraining(out=folder, coats=1, seen=((folder / "run", folder / "archive"),)))
