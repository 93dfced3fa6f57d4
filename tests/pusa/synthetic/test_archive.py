import datetime as dt
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import ExifTags, Image
from pycocotools import mask as coco_mask

from pusa.deployments import read_deployments
from pusa.errors import UserError
from pusa.synthetic import archive as archives
from pusa.synthetic.archive import _clarity, _degrees, processes, synth
from pusa.synthetic.photo import Instance
from pusa.synthetic.settings import SynthConfig

TINY = SynthConfig(photos=6, sequences=2, individuals=3, seed=4, absent=0.0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "archive"
    written = []
    made = synth(out, TINY, processes(2), written.append)
    assert sorted(written) == [0, 3, 3]
    assert (made.photos, made.sequences) == (6, 2)
    assert made.individuals == 3
    assert sum(made.sides.values()) == made.instances
    return out


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_same_bytes_with_any_number_of_processes(archive, tmp_path):
    synth(tmp_path / "again", TINY, processes(1))
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
        assert a["occluded"] == pytest.approx(1 - a["visibility"])
        surface = np.array(Image.open(archive / "truth" / "surface" / f"{a['id']}.png"))
        assert surface.shape == ((h + 1) // 2, (w + 1) // 2, 3)
        coat = Image.open(archive / "truth" / "coats" / f"{a['identity']}.png")
        assert coat.mode == "1"
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


def test_an_interrupted_rendering_is_resumed(archive, tmp_path):
    """Stopped after the first sequence, with half of the second one on the disk: the same bytes in the end."""
    out = tmp_path / "broken"

    def stop(work, items):
        yield work(items[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synth(out, TINY, stop)
    assert not (out / "truth" / "instances.json").exists()
    written = []
    synth(out, TINY, processes(1), written.append)
    assert written == [3, 3]  # was there, came
    assert _files(out) == _files(archive)
    synth(out, TINY, processes(1), written.append)  # finished: nothing is drawn again
    assert written == [3, 3]


def test_no_process_draws_on_when_the_first_one_is_killed(tmp_path):
    """It would write into a folder that may have been emptied for another archive."""
    script = (
        "from pathlib import Path; from pusa.synthetic.archive import processes, synth; "
        "from pusa.synthetic.settings import SynthConfig; import sys\n"
        "if __name__ == '__main__': synth(Path(sys.argv[1]), SynthConfig(photos=60, sequences=20), processes(2))"
    )
    (tmp_path / "draw.py").write_text(script)
    drawing = subprocess.Popen([sys.executable, str(tmp_path / "draw.py"), str(tmp_path / "out")])
    mine = Path(f"/proc/{drawing.pid}/task/{drawing.pid}/children")
    assert _comes_true(lambda: len(mine.read_text().split()) >= 2, seconds=60)
    children = mine.read_text().split()
    drawing.send_signal(signal.SIGKILL)
    drawing.wait()
    assert _comes_true(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), seconds=60)


def _comes_true(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return true


def test_other_settings_are_refused_in_a_folder_that_was_begun(archive):
    with pytest.raises(UserError, match="other settings"):
        synth(archive, TINY.model_copy(update={"seed": 5}), processes(1))
    assert yaml.safe_load((archive / "settings.yaml").read_text())["seed"] == 4


def test_a_full_disk_is_told_before_a_photo_is_written(tmp_path, monkeypatch):
    usage = archives.shutil.disk_usage(tmp_path)._replace(free=1_000_000)  # 6 photos need about 3 MB
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="GB free"):
        synth(tmp_path / "archive", TINY, processes(1))
    assert not list((tmp_path / "archive").iterdir())


def test_a_disk_that_fills_up_ends_with_a_message(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_assemble", full)
    with pytest.raises(UserError, match=r"No space left.*goes on from there"):
        synth(tmp_path / "archive", TINY, processes(1))


def test_wrong_looks_are_told_before_a_photo_is_written(tmp_path):
    with pytest.raises(UserError, match="lava"):
        synth(tmp_path / "archive", TINY.model_copy(update={"look": {"grounds": ["lava"]}}), processes(1))
    with pytest.raises(UserError, match="colour"):
        synth(tmp_path / "archive", TINY.model_copy(update={"look": {"colour": 1}}), processes(1))
    assert not (tmp_path / "archive").exists()


def test_occupied_folder_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        synth(tmp_path, TINY, processes(1))
    with pytest.raises(UserError, match="Cannot write"):
        synth(tmp_path / "mine.txt", TINY, processes(1))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("light", "noise", "difference", "clarity"),
    [
        (20, 0.0, 20, 20),  # without noise, far beyond any doubt
        (0, 5.0, 0, 0),  # invisible
        (10, 10.0, 10, 1),  # as much above the fur as its noise is strong
    ],
)
def test_clarity_of_rings(light, noise, difference, clarity):
    rings = np.zeros((60, 200), bool)
    rings[10:50:8] = rings[11:50:8] = True
    image = 100.0 + light * rings + np.random.default_rng(0).normal(0, noise, rings.shape)
    photo = np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    mask, surface = np.ones_like(rings), np.zeros((60, 200, 3), np.uint8)
    found = _clarity(Instance(1, "left", (0, 0, 200, 60), mask, rings, surface, 1.0, 1.0, 0.0), photo)
    assert found[0] == pytest.approx(difference, abs=1)
    assert min(found[1], 20) == pytest.approx(clarity, abs=0.15)
    nothing = Instance(1, "left", (0, 0, 200, 60), mask, ~mask, surface, 1.0, 1.0, 0.0)
    assert _clarity(nothing, photo) == (0.0, 0.0)


def test_degrees():
    assert _degrees(61.5125) == (61.0, 30.0, 45.0)
