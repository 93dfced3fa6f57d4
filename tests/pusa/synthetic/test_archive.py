import datetime as dt
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from pycocotools import mask as coco_mask

from pusa.deployments import read_deployments
from pusa.errors import UserError
from pusa.synthetic.archive import MAX_ANIMALS, SynthConfig, _degrees, plan_sequences, synth

TINY = SynthConfig(photos=6, sequences=2, individuals=3, seed=4, absent=0.0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "archive"
    written = []
    made = synth(out, TINY, processes=2, progress=written.append)
    assert sorted(written) == [3, 3]
    assert (made.photos, made.sequences) == (6, 2)
    assert sum(made.sides.values()) == made.instances
    return out


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_same_bytes_with_any_number_of_processes(archive, tmp_path):
    synth(tmp_path / "again", TINY, processes=1)
    assert _files(tmp_path / "again") == _files(archive)


def test_truth_is_consistent(archive):
    coco = json.loads((archive / "truth" / "instances.json").read_text())
    images = {i["id"]: i for i in coco["images"]}
    assert len(images) == 6
    assert len({a["id"] for a in coco["annotations"]}) == len(coco["annotations"]) > 0
    for a in coco["annotations"]:
        image = images[a["image_id"]]
        mask = coco_mask.decode(a["segmentation"]).astype(bool)
        assert mask.shape == (image["height"], image["width"]) == (960, 1280)
        assert mask.sum() == a["area"] >= 250
        x, y, w, h = a["bbox"]
        assert mask[y : y + h, x : x + w].sum() == a["area"]
        ring_file = Image.open(archive / "truth" / "rings" / f"{a['id']}.png")
        assert ring_file.mode == "1"
        rings = np.array(ring_file)
        assert rings.shape == (h, w)
        assert not (rings & ~mask[y : y + h, x : x + w]).any()
        assert a["sequence_id"] == image["sequence_id"]
        assert 0 < a["visibility"] <= 1
    files = {str(p.relative_to(archive / "photos")) for p in (archive / "photos").rglob("*.JPG")}
    assert files == {i["file_name"] for i in images.values()}


def test_exif_and_deployments_agree_with_the_truth(archive):
    deployments = {d.folder: d for d in read_deployments(str(archive / "deployments.csv"))}
    coco = json.loads((archive / "truth" / "instances.json").read_text())
    for image in coco["images"]:
        deployment = deployments[image["file_name"].split("/")[0]]
        assert deployment.deployment_id == image["deployment_id"]
        exif = Image.open(archive / "photos" / image["file_name"]).getexif()
        clock = exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal]
        taken = deployment.local(dt.datetime.strptime(clock, "%Y:%m:%d %H:%M:%S"))
        assert f"{taken:%Y-%m-%d %H:%M:%S}" == image["date_captured"]
        assert deployment.start <= taken <= deployment.end
        assert exif[ExifTags.Base.Model]
        d, m, s = (float(v) for v in exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude])
        assert abs(d + m / 60 + s / 3600 - deployment.latitude) < 1e-4


def test_default_plan_is_a_good_demo():
    for seed in range(5):
        plan = plan_sequences(SynthConfig(seed=seed))
        assert sum(s.n_photos for s in plan) == 60
        sightings = Counter(i for s in plan for i in s.individuals)
        assert set(sightings) == set(range(1, 13))
        assert min(sightings.values()) >= 2
        early = {i for s in plan[:5] for i in s.individuals}
        assert 10 <= len(early) <= 11  # most are known by then, one or two are new later
        repeated = Counter((i, round(y / 180) % 2) for s in plan for i, y in zip(s.individuals, s.yaws, strict=True))
        assert sum(n >= 2 for n in repeated.values()) >= 6  # the same flank comes back


def test_more_sequences_than_days():
    plan = plan_sequences(SynthConfig(photos=900, sequences=300, individuals=40))
    assert len({s.sequence_id for s in plan}) == 300
    assert max(s.start for s in plan).year == 2022


@settings(max_examples=60, deadline=None)
@given(
    sequences=st.integers(1, 40), individuals=st.integers(1, 60), spare=st.integers(0, 100), seed=st.integers(0, 2**40)
)
def test_any_plan_holds_together(sequences, individuals, spare, seed):
    assume(individuals <= MAX_ANIMALS * sequences)
    config = SynthConfig(photos=3 * sequences + spare, sequences=sequences, individuals=individuals, seed=seed)
    plan = plan_sequences(config)
    assert sum(s.n_photos for s in plan) == config.photos
    assert min(s.n_photos for s in plan) >= 3
    assert [s.start for s in plan] == sorted(s.start for s in plan)
    assert len({s.sequence_id for s in plan}) == sequences
    first = 1
    for s in plan:
        assert s.first_photo == first
        first += s.n_photos
        assert 1 <= len(set(s.individuals)) == len(s.individuals) == len(s.yaws) <= MAX_ANIMALS
    seen = {i for s in plan for i in s.individuals}
    assert seen == set(range(1, individuals + 1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"photos": 20}, "at least 30 photos"),  # 10 sequences of 3
        ({"individuals": 81}, "at most 80 individuals"),
    ],
)
def test_impossible_plans(values, message):
    with pytest.raises(UserError, match=message):
        SynthConfig(**values)


def test_occupied_folder_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        synth(tmp_path, TINY)
    with pytest.raises(UserError, match="Cannot write"):
        synth(tmp_path / "mine.txt", TINY)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_degrees():
    assert _degrees(61.5125) == (61.0, 30.0, 45.0)
