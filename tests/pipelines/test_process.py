"""The main job: whole runs on a Ray session of two CPUs. Its bookkeeping: test_bookkeeping.py."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.evaluate import evaluate_run
from pipelines.identify import identify
from pipelines.process import (
    ProcessConfig,
    ShardEncoder,
    begin,
    process,
)
from pipelines.rebuild import rebuild
from pusa import records, weights
from pusa.config import load_config
from pusa.embedding.embed import PatchEmbedder
from pusa.encounters import EncounterConfig
from pusa.errors import UserError
from pusa.fisher.codebook import Codebook
from pusa.gallery.candidate_set import CandidateSet
from pusa.gallery.enrolment import enroll
from pusa.gallery.journal import Decision
from pusa.gallery.store import Gallery
from pusa.gallery.verify import VerifyConfig
from pusa.grouping.descriptor import Describer
from pusa.marks.find import KeypointFinder
from pusa.marks.network import MarkNetwork
from pusa.pattern.extract import PatternExtractor
from pusa.records import Run
from pusa.segmentation.detect import PhotoDetector
from pusa.sides.find import SideFinder
from pusa.synthetic.archive import processes, synth
from pusa.synthetic.settings import SynthConfig
from pusa.truth import encounter_names

ROOT = Path(__file__).resolve().parents[2]
CONFIG = load_config(ProcessConfig, overrides={"photos_per_block": 2, "sides.weights": "starter/sides"})


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three sequences of synthetic photos, with every kind of bad file among them."""
    out = tmp_path_factory.mktemp("synthetic")
    made = out / "archive"
    synth(made, SynthConfig(photos=9, sequences=3, individuals=4, seed=5), processes(os.cpu_count() or 1))
    photos = made / "photos"
    first = sorted(photos.rglob("*.JPG"))[0]
    bad = photos / "bad"
    bad.mkdir()
    (bad / "0_byte.jpg").write_bytes(b"")
    (bad / "text.jpg").write_text("this is no photo")
    (bad / "truncated.jpg").write_bytes(first.read_bytes()[:20_000])
    bomb = io.BytesIO()
    Image.new("1", (20_000, 15_000)).save(bomb, "PNG")  # 300 megapixels in a few kilobytes
    (bad / "bomb.png").write_bytes(bomb.getvalue())
    Image.fromarray(np.full((300, 400), 40_000, np.uint16)).save(bad / "no_animal_16_bit.png")
    Image.new("CMYK", (400, 300), (90, 10, 10, 0)).save(bad / "no_animal_cmyk.jpg")
    shutil.copy(first, bad / "zz_copy.jpg")
    (photos / "notes.txt").write_text("not a photo, and not in the way")
    return made


@pytest.fixture(scope="module")
def finished(archive, tmp_path_factory, cluster):
    """The run of that archive, undisturbed."""
    out = str(tmp_path_factory.mktemp("run") / "run")
    photos = str(archive / "photos")
    begin(photos, out, CONFIG, command="pusa process ...")
    process(photos, out, CONFIG)
    return Run(out)


def by_id(run, table="photos", key="photo_id"):
    return run.read(table).sort_by(key)


def test_nothing_is_lost(finished, archive):
    photos = by_id(finished).to_pylist()
    assert len(photos) == 9 + 7
    status = {row["path"]: (row["status"], row["error"]) for row in photos}
    assert {path for path, (state, _) in status.items() if state == "error"} == {
        "bad/0_byte.jpg", "bad/text.jpg", "bad/truncated.jpg", "bad/bomb.png",
    }  # fmt: skip
    assert "megapixels" in status["bad/bomb.png"][1]
    assert all(error is None for state, error in status.values() if state == "ok")
    counts = finished.manifest()["counts"]
    assert (counts["photos"], counts["errors"], counts["duplicates"]) == (16, 4, 1)
    assert counts["photos_without_animals"] >= 2


def test_instances_are_in_pixels_of_the_photo(finished):
    flat = records.flatten_instances(finished.read("photos")).to_pylist()
    assert flat
    for row in flat:
        x0, y0, x1, y1 = row["crop_box"]
        assert 0 <= x0 < x1 <= row["width"]
        assert 0 <= y0 < y1 <= row["height"]
        assert row["mask"]["size"] == [row["height"], row["width"]]
        assert row["usable"] == bool(row["patch_boxes"])
        assert (row["unusable_reason"] is None) == row["usable"]
        assert len(row["embeddings"] or []) == 512 * len(row["patch_boxes"] or [])


def test_copies_are_rows_but_in_no_encounter(finished):
    photos = finished.read("photos").to_pylist()
    (copy,) = [row for row in photos if row["duplicate_of"]]
    assert copy["path"] == "bad/zz_copy.jpg"
    grouped = {
        i for members in finished.read("encounters", ["instance_ids"])["instance_ids"].to_pylist() for i in members
    }
    expected = {i["instance_id"] for row in photos if not row["duplicate_of"] for i in row["instances"]}
    assert grouped == expected
    assert copy["instances"]


def test_the_same_rows_without_ray(finished, archive):
    """One process, one batch: the rows do not depend on blocks, pools or their order."""
    photos = finished.read("index")
    for stage in (
        PhotoDetector(str(archive / "photos"), CONFIG.segmentation, CONFIG.crops, threads=1),
        SideFinder(CONFIG.sides, threads=1),
        Describer(CONFIG.descriptor, threads=1),
        KeypointFinder(CONFIG.keypoints, threads=1),
        PatternExtractor(CONFIG.pattern, threads=1),
        PatchEmbedder(CONFIG.embedding, threads=1),
    ):
        photos = stage(photos)
    mine, theirs = photos.sort_by("photo_id"), by_id(finished)
    for row, (found, expected) in enumerate(zip(records.instances(mine), records.instances(theirs), strict=True)):
        assert [i["instance_id"] for i in found] == [i["instance_id"] for i in expected], row
        for a, b in zip(found, expected, strict=True):
            assert a["crop"] == b["crop"]
            assert a["mask"] == b["mask"]
            assert a["pattern"] == b["pattern"]
            assert a["picture"] == b["picture"]
            assert a["side"] == b["side"]
            assert a["side_probability"] == pytest.approx(b["side_probability"], abs=1e-4)
            for vector in ("descriptor", "keypoints", "embeddings"):
                if b[vector] is not None:
                    np.testing.assert_allclose(a[vector], b[vector], atol=2e-3)


def test_a_finished_run_is_not_done_again(finished, archive, cluster):
    before = {file: finished.fs.get_file_info(file).mtime_ns for file in finished.files("photos")}
    assert begin(str(archive / "photos"), finished.uri, CONFIG) is None
    process(str(archive / "photos"), finished.uri, CONFIG)
    assert {file: finished.fs.get_file_info(file).mtime_ns for file in finished.files("photos")} == before


def test_other_settings_need_another_folder(finished, archive):
    other = load_config(ProcessConfig, overrides={"photos_per_block": 2, "pattern.threshold": 0.5})
    with pytest.raises(UserError, match="begun with other config"):
        begin(str(archive / "photos"), finished.uri, other)


def test_enrol_and_identify(finished, archive, tmp_path):
    truth, gallery = str(archive / "truth" / "instances.json"), str(tmp_path / "gallery")
    names = encounter_names(finished, truth)
    counts = enroll(finished, gallery, names)
    assert counts["enrolled"] == len(names) == counts["encounters"]
    assert enroll(finished, gallery, names)["encounters"] == len(names)  # the same again: replaced, not doubled
    found = identify(finished, gallery)
    encounters = finished.read("encounters", ["encounter_id", "n_patches"]).to_pylist()
    assert found["compared"] == sum(e["n_patches"] > 0 for e in encounters)
    candidates = finished.read("candidates").to_pylist()
    assert {c["encounter_id"] for c in candidates} <= {e["encounter_id"] for e in encounters}
    # An enrolled encounter is not its own candidate: its own vector would be at distance 0.
    assert min(c["distance"] for c in candidates) > 1e-4
    assert all(c["inliers"] is None for c in candidates)
    about = Gallery.open(gallery).vectors().about
    told = identify(finished, gallery, among=CandidateSet(first_year=2021, last_year=2021))
    assert (told["candidate_set"], told["searched"]) == ("2021 to 2021", len(about) - about["taken_to"].null_count)
    assert finished.manifest()["identified"] == told
    identify(finished, gallery, verification=VerifyConfig())
    verified = finished.read("candidates").to_pylist()
    assert {(c["encounter_id"], c["rank"]) for c in verified} == {(c["encounter_id"], c["rank"]) for c in candidates}
    assert min(c["distance"] for c in verified) > 1e-4
    assert all(c["inliers"] is not None for c in verified)
    # Calibrated: what is left of 1 belongs to individuals further down.
    total: dict[str, float] = {}
    for c in verified:
        total[c["encounter_id"]] = total.get(c["encounter_id"], c["new_probability"]) + c["probability"]
    assert all(0 < p < 1.001 for p in total.values())


def test_a_gallery_made_anew(finished, archive, tmp_path):
    """The same codebook: the same vectors, but for an encounter of which a crop was taken out. Names stay."""
    truth, uri = str(archive / "truth" / "instances.json"), str(tmp_path / "gallery")
    enroll(finished, uri, encounter_names(finished, truth))
    old = Gallery.open(uri)
    before = old.vectors()
    rows = finished.read("encounters", ["encounter_id", "instance_ids"]).to_pylist()
    has_patches = {
        i["instance_id"] for batch in finished.batches("photos") for nested in records.instances(batch) for i in nested
        if i["patch_boxes"]
    }  # fmt: skip
    e, out = next((r["encounter_id"], i) for r in rows if len(r["instance_ids"]) > 1 and r["encounter_id"] in
                  before.encounter_ids for i in r["instance_ids"] if i in has_patches)  # fmt: skip
    old.decide(Decision("other_animal", ((finished.key, e),), instance_id=out))
    counts = rebuild(old, str(tmp_path / "new"), Codebook.load("starter/codebook"), "starter/embedding")
    assert counts["without_run"] == 0
    new = Gallery.open(str(tmp_path / "new"))
    assert new.decisions() == old.decisions()
    after = new.vectors()
    assert (after.encounter_ids, after.individuals) == (before.encounter_ids, before.individuals)
    keys = list(zip(after.runs, after.encounter_ids, strict=True))
    assert [len(f) for f in new.features(keys)] == [len(f) for f in old.features(keys)]
    for mine, theirs in zip(new.features(keys), old.features(keys), strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert len(a.patches.at) > 0
            np.testing.assert_array_equal(a.patches.at, b.patches.at)
            np.testing.assert_allclose(a.patches.descriptors, b.patches.descriptors, atol=2e-3)
    apart = 1 - (after.fisher.astype(float) * before.fisher.astype(float)).sum(axis=1)
    for encounter_id, distance in zip(after.encounter_ids, apart, strict=True):
        assert (distance > 0.01) == (encounter_id == e), (encounter_id, distance)


def test_a_gallery_with_a_network_of_its_own_for_key_points(finished, archive, tmp_path):
    """What is asked is described as the gallery's crops are: a copy of the run finds itself. Others are refused."""
    own, uri = str(tmp_path / "own.safetensors"), str(tmp_path / "gallery")
    weights.save(Path(own), "marks", {"network": {"width": 4}}, MarkNetwork(width=4).state_dict())
    names = encounter_names(finished, str(archive / "truth" / "instances.json"))
    enroll(finished, uri, names, marks=own)
    enroll(finished, uri, names)  # again: it keeps to its own
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    identify(copy, uri, 1, VerifyConfig())
    found = {row["encounter_id"]: row for row in copy.read("candidates").to_pylist()}
    mine = [e for e in names if e in found]
    assert mine
    assert all(found[e]["individual"] == names[e] and found[e]["inliers"] > 20 for e in mine)
    with pytest.raises(UserError, match=r"described by .*own.safetensors, and cannot be compared with"):
        enroll(finished, uri, names, marks="starter/marks")


def test_a_gallery_made_anew_without_its_run(finished, archive, tmp_path):
    """Encounters stay, with their names, but cannot be found."""
    run = Run(shutil.copytree(finished.path, tmp_path / "run"))
    enroll(run, str(tmp_path / "gallery"), encounter_names(run, str(archive / "truth" / "instances.json")))
    shutil.rmtree(run.path)
    old = Gallery.open(str(tmp_path / "gallery"))
    counts = rebuild(old, str(tmp_path / "new"), Codebook.load("starter/codebook"), "starter/embedding")
    new = Gallery.open(str(tmp_path / "new"))
    assert counts["without_run"] == counts["without_vector"] == counts["encounters"] == old.counts()["encounters"]
    assert new.catalogue().names == old.catalogue().names


def test_evaluation_measures_every_stage(finished, archive):
    found = evaluate_run(finished, str(archive / "truth" / "instances.json"), verification=VerifyConfig())
    shares = ("precision", "recall", "f1", "pattern_f1", "pattern_cldice", "usable", "purity", "rand_index", "top_5",
              "verified_top_5")  # fmt: skip
    assert all(0 <= found[name] <= 1 for name in shares)
    assert found["animals"] >= 9
    assert found["pattern_f1"] > 0.3  # drawn lines are found, in the right place
    assert 0 < found["patch_chance"] < found["patch_map"] <= 1
    assert found["queries"] + found["no_match"] <= len(finished.read("encounters", ["encounter_id"]))


def test_an_unknown_encounter_in_the_names_is_told(finished, tmp_path):
    (tmp_path / "names.csv").write_text("encounter_id,individual\nnowhere#0,Anna\n")
    with pytest.raises(UserError, match=r"line 2.*nowhere#0"):
        encounter_names(finished, str(tmp_path / "names.csv"))


def test_a_killed_run_resumes_exactly(finished, archive, tmp_path):
    """SIGKILL to the driver after the first block; the same command again gives the rows of the undisturbed run."""
    out, config = tmp_path / "run", tmp_path / "config.yaml"
    config.write_text("photos_per_block: 2\n")
    command = [sys.executable, "-m", "commands.main", "process", str(archive / "photos"), "--out", str(out)]
    command += ["--config", str(config), "--cpus", "2"]
    log = (tmp_path / "log").open("w")
    first = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    while first.poll() is None and not list((out / "photos").glob("*.parquet")):
        time.sleep(
            0.1
        )  # a busy machine may need minutes for the start; one that hangs is stopped by the test run's limit
    assert first.poll() is None, (tmp_path / "log").read_text()
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    run = Run(str(out))
    assert run.manifest()["state"] == "running"
    with pytest.raises(UserError, match="did not finish"):
        run.finished_manifest()
    before = len(run.read("photos", ["photo_id"]))
    assert 0 < before < 16
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    assert "were already done" in again.stdout
    mine, theirs = by_id(run), by_id(finished)
    assert mine["photo_id"].to_pylist() == theirs["photo_id"].to_pylist()
    for column in ("status", "error", "digest", "duplicate_of"):
        assert mine[column].to_pylist() == theirs[column].to_pylist()
    for found, expected in zip(records.instances(mine), records.instances(theirs), strict=True):
        assert [i["mask"] for i in found] == [i["mask"] for i in expected]
    keys = ("encounter_id", "instance_ids", "n_patches")
    mine, theirs = (by_id(r, "encounters", "encounter_id").select(keys).to_pylist() for r in (run, finished))
    assert mine == theirs


def test_shards_do_not_change_encounters(finished):
    """A shard's encounters follow from its rows alone."""
    encoder = ShardEncoder(finished.uri, EncounterConfig(codebook=None))
    before = by_id(finished, "encounters", "encounter_id").select(["encounter_id", "instance_ids"]).to_pylist()
    photos = finished.read("photos")
    found = encoder.builder(photos.take(list(reversed(range(len(photos)))))).sort_by("encounter_id")
    assert found.select(["encounter_id", "instance_ids"]).to_pylist() == before
