"""Table 3 on a run made by hand: two animals, each a database image and an encounter of two photos."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from commands.main import app
from pipelines import reid
from pusa import photos, records, weights
from pusa.errors import UserError
from pusa.fisher.codebook import Codebook
from pusa.records import Run
from pusa.segmentation import masks

SIDE = 160
PHOTOS = (  # path, sequence, animal (None: one that the truth does not know), part of the database
    ("d/anna.jpg", "d1", "Anna", True),
    ("d/bert.jpg", "d2", "Bert", True),
    ("q/1.jpg", "q1", "Anna", False),
    ("q/2.jpg", "q1", "Anna", False),
    ("q/3.jpg", "q2", "Bert", False),
    ("q/4.jpg", "q2", None, False),
    ("q/5.jpg", "q3", "Cora", False),  # not in the database
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """run/ and truth.json. Each animal has marks, patches and a descriptor of its own; each photo adds noise."""
    monkeypatch.setattr(reid, "ROOT_SIFT", reid.ROOT_SIFT.model_copy(update={"dimensions": 8, "components": 4}))
    book = Codebook.load("starter/codebook")
    rng = np.random.default_rng(0)
    of_animal = {}
    words = (book.center + book.mixture.means @ book.axes.T).numpy()  # embeddings that the codebook knows
    for k, name in enumerate(("Anna", "Bert", "Cora", None)):
        marks = np.kron(rng.integers(0, 2, (20, 20)) * 160 + 40, np.ones((8, 8))).astype(np.uint8)
        patches = words[12 * k : 12 * k + 12] + rng.normal(0, 0.02, (12, words.shape[1]))  # VLAD sees what is off them
        corners = np.random.default_rng(k).uniform(0, SIDE - 20, (12, 2))
        of_animal[name] = marks, patches, rng.standard_normal(32), np.hstack([corners, corners + 20]).tolist()
    whole = masks.encode(np.ones((SIDE, SIDE), bool))
    rows, encounters, images, annotations = [], {}, [], []
    for n, (path, sequence, name, database) in enumerate(PHOTOS):
        marks, patches, descriptor, boxes = of_animal[name]
        noisy = (marks[..., None] + rng.normal(0, 4, (SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
        patches = patches + rng.normal(0, 0.002, patches.shape)
        instance = records.new_instance(
            f"p{n}#0", mask=whole, crop_box=np.array([0, 0, SIDE, SIDE]), crop=photos.encode_jpeg(noisy),
            embeddings=None if path == "q/2.jpg" else patches.astype(np.float16).ravel(),
            patch_boxes=[] if path == "q/2.jpg" else boxes,
            descriptor=(descriptor + rng.normal(0, 0.02, 32)).astype(np.float16),
        )  # fmt: skip
        row = {f.name: None for f in records.PHOTOS} | {"photo_id": f"p{n}", "path": path, "sequence_id": sequence}
        rows.append(row | {"status": "ok", "instances": [instance]})
        key = f"{sequence}#0" if name else f"{sequence}#1"
        encounters.setdefault(key, (sequence, []))[1].append(f"p{n}#0")
        image = {"id": n, "file_name": path, "width": SIDE, "height": SIDE}
        images.append(image | ({"split": "database"} if database else {}))
        if name:
            annotations.append({"id": n, "image_id": n, "category_id": 1, "bbox": [0, 0, SIDE, SIDE], "identity": name,
                                "segmentation": {"size": [SIDE, SIDE], "counts": [0, SIDE * SIDE]}, "iscrowd": 0,
                                "area": SIDE * SIDE})  # fmt: skip
    run = Run(str(tmp_path / "run"))
    run.write("photos", pa.Table.from_pylist(rows, records.PHOTOS), "00000")
    table = [{f.name: None for f in records.ENCOUNTERS} | {"encounter_id": e, "sequence_id": s, "instance_ids": m}
             for e, (s, m) in encounters.items()]  # fmt: skip
    run.write("encounters", pa.Table.from_pylist(table, records.ENCOUNTERS), "00000")
    used = {kind: weights.digest(weights.find(f"starter/{kind}")) for kind in ("pattern", "embedding")}
    config = {"encounters": {"codebook": "starter/codebook"}}
    run.write_manifest({"state": "finished", "weights": used | {"codebook": book.digest}, "config": config})
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "seal"}]}
    (tmp_path / "truth.json").write_text(json.dumps(coco))
    return tmp_path


def test_every_method_finds_what_looks_the_same(folder):
    animals, rows = reid.evaluate_reid(Run(str(folder / "run")), str(folder / "truth.json"))
    assert animals.queries == 4  # two of Anna, one of Bert, one of Cora
    assert len({row.method for row in rows}) == 13
    for row in rows:
        assert row.by_image.dropped == 1, row  # Cora
        # Photo 2 has no pattern: by patches alone it is a miss, unless it takes the answer of its group.
        of_vectors = row.method in ("Fisher vector", "mean embedding", "bag of words", "VLAD")
        of_patches = of_vectors or row.method.startswith("patches")
        expected = 2 / 3 if of_patches and not row.grouping else 1
        assert row.by_image.top(1)[0] == pytest.approx(expected), row
        assert row.by_encounter.top(1)[0] == pytest.approx(expected), row


def test_the_command_prints_the_table(folder):
    truth = str(folder / "truth.json")
    result = CliRunner().invoke(app, ["evaluate", "reid", str(folder / "run"), "--truth", truth, "--only", "VLAD"])
    assert result.exit_code == 0, result.output
    assert "of 4 known animals in the photos of the queries 4 were found, 1 are not in the database" in " ".join(
        result.output.split()
    )
    assert result.output.count("VLAD") >= 3


def test_a_codebook_made_with_other_weights_is_refused(folder):
    run = Run(str(folder / "run"))
    manifest = run.manifest()
    run.write_manifest(manifest | {"weights": manifest["weights"] | {"embedding": "f" * 64}})
    with pytest.raises(UserError, match="other embedding weights"):
        reid.evaluate_reid(run, str(folder / "truth.json"), only="VLAD")


def test_a_run_without_a_codebook(folder):
    run = Run(str(folder / "run"))
    run.write_manifest(run.manifest() | {"config": {"encounters": {"codebook": None}}})
    with pytest.raises(UserError, match="give one as --codebook"):
        reid.evaluate_reid(run, str(folder / "truth.json"))
    assert reid.evaluate_reid(run, str(folder / "truth.json"), "starter/codebook", "VLAD")[1]


def test_a_method_that_is_not_there(folder):
    with pytest.raises(UserError, match="No method has 'MAC' in its name; there are: Fisher vector, "):
        reid.evaluate_reid(Run(str(folder / "run")), str(folder / "truth.json"), only="MAC")


def test_no_animal_of_the_database(folder):
    truth = json.loads((folder / "truth.json").read_text())
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] > 1]
    (folder / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(UserError, match="No animal of the database images"):
        reid.evaluate_reid(Run(str(folder / "run")), str(folder / "truth.json"), only="VLAD")


def test_sweep_of_codebooks(cluster, folder):
    run, picture = str(folder / "run"), folder / "sweep.png"
    command = ["codebook", "sweep", run, "--on", run, "--truth", str(folder / "truth.json"), "--out", str(picture)]
    result = CliRunner().invoke(app, [*command, "--dimensions", "4,8", "--components", "6"])
    assert result.exit_code == 0, result.output
    # The encounters of Anna and of Bert are found by any codebook.
    assert "4 dimensions, 6 components: top-1 1.000" in result.output
    assert "8 dimensions, 6 components: top-1 1.000" in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_sweep_wants_numbers(folder):
    run = str(folder / "run")
    command = ["codebook", "sweep", run, "--on", run, "--truth", str(folder / "truth.json"), "--out", "x.png"]
    result = CliRunner().invoke(app, [*command, "--dimensions", "64;128"])
    assert isinstance(result.exception, UserError)
    assert "such as 64,128; got '64;128'" in str(result.exception)


def test_nothing_to_find(folder):
    truth = json.loads((folder / "truth.json").read_text())
    for annotation in truth["annotations"][2:]:
        annotation["identity"] = "Dora"
    (folder / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(UserError, match="nothing to measure"):
        reid.evaluate_reid(Run(str(folder / "run")), str(folder / "truth.json"), only="VLAD")


def test_only_animals_that_a_person_could_name(folder):
    """Anna is clear on her flank in the database and in one of two pictures; Bert only on the other flank."""
    truth = json.loads((folder / "truth.json").read_text())
    told = {0: ("left", 0.6), 1: ("left", 0.1), 2: ("left", 0.2), 3: ("left", 0.5), 4: ("right", 0.9), 6: ("left", 0.9)}
    for a in truth["annotations"]:
        a["side"], a["ring_clarity"] = told[a["id"]]
        a["sequence_id"] = PHOTOS[a["id"]][1]
    file = folder / "clear.json"
    file.write_text(json.dumps(truth))
    assert reid.seen_by_people(str(file), 0.5) == {"0", "1", "2", "3"}
    assert reid.seen_by_people(str(file), 0.55) == {"0", "1"}  # nobody is left but the database
    animals = reid.read(Run(str(folder / "run")), str(file), 0.5)
    assert animals.ids == ["p0#0", "p1#0", "p2#0", "p3#0"]
    assert animals.queries == 2
    with pytest.raises(UserError, match="only the truth of `pusa synth`"):
        reid.read(Run(str(folder / "run")), str(folder / "truth.json"), 0.5)
