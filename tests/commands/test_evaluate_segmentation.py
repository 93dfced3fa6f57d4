import json

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from commands.main import app
from pusa import weights
from pusa.segmentation.mask_rcnn import build


@pytest.fixture
def archive(tmp_path):
    """Two photos with an animal each, of which one is missing, and two untrained detectors."""
    cv2.imwrite(str(tmp_path / "0.png"), np.full((72, 96, 3), 90, np.uint8))
    images = [{"id": i, "file_name": f"{i}.png", "width": 96, "height": 72} for i in (0, 1)]
    annotations = [{"id": i, "image_id": i, "segmentation": [[20, 20, 60, 20, 60, 50]], "iscrowd": 0} for i in (0, 1)]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    settings = {"architecture": "lite", "channels": 16, "box_head": 16, "mask_layers": 1}
    for seed in (0, 1):
        torch.manual_seed(seed)
        weights.save(tmp_path / f"{seed}.safetensors", "segmentation", settings, build(settings).state_dict())
    return tmp_path


def test_a_row_for_each_detector(archive):
    source = f"{archive}/coco.json:{archive}"
    detectors = [part for seed in (0, 1) for part in ("--weights", f"{archive}/{seed}.safetensors")]
    arguments = ["evaluate", "segmentation", "--coco", source, *detectors, "--worst", f"{archive}/worst.html"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "150"})
    assert result.exit_code == 0, result.output
    assert "left out:" in result.output  # the photo that is missing
    assert "1 photos, 1 animals; threshold 0.8" in result.output
    assert result.output.count(" box ") == 2
    assert (archive / "worst.html").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coco": "coco.json"}, "Expected FILE:FOLDER"),
        ({"weights": "none.safetensors"}, "There is no weights file"),
        ({"config": "engine: detectron2"}, "detectron2"),  # not installed, or not a network that it has
        ({"config": "engine: yolo"}, "setting `engine`"),
    ],
)
def test_errors_are_told(archive, change, message):
    (archive / "config.yaml").write_text(change.get("config", ""))
    arguments = ["--coco", change.get("coco", f"{archive}/coco.json:{archive}"),
                 "--weights", change.get("weights", f"{archive}/0.safetensors"),
                 "--config", f"{archive}/config.yaml"]  # fmt: skip
    result = CliRunner().invoke(app, ["evaluate", "segmentation", *arguments])
    assert result.exit_code != 0
    assert message in str(result.exception) + result.output
