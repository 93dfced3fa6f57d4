"""The configuration: read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pusa.errors import UserError
from pusa.fisher.codebook import Codebook
from pusa.gallery.store import Gallery
from serving import config
from serving.access import Keys
from serving.database import Database
from serving.settings import ServingConfig

FILE = Path(config.__file__).parent / "config.yaml"


def test_ours_holds():
    values = config.load(FILE)
    assert [d["name"] for d in values["applications"][0]["deployments"]] == list(config.DEPLOYMENTS)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["http_option"], {}, "`http_option` is not known"),  # misspelt, at each level
        (["http_options", "prot"], 1, "`http_options.prot` is not known"),
        (["applications", 0, "arg"], {}, "`applications.0.arg` is not known"),
        (["applications", 0, "deployments", 1, "max_ongoing_request"], 3, "`deployments.1.max_ongoing_request` is not"),
        (["applications", 0, "deployments", 1, "ray_actor_options", "num_gpu"], 1, "num_gpu` is not known"),
        (["applications", 0, "deployments", 1, "autoscaling_config", "max_replica"], 1, "max_replica` is not known"),
        (["applications", 0, "deployments", 1, "name"], "Detecter", "expected one of Web, Detector"),
        (["applications", 0, "deployments", 1, "max_queued_requests"], -5, "max_queued_requests"),
        (
            ["applications", 0, "deployments", 1, "autoscaling_config"],
            {"min_replicas": 5, "max_replicas": 2},
            "replicas",
        ),
        (["applications", 0, "import_path"], "serving.app:build", "expected serving.deployments:build"),
        (["applications", 0, "args", "galery"], "x", "`args.galery`"),
        (["applications", 0, "args", "stages"], {"pattern": {"thresold": 1}}, "args.stages.pattern.thresold"),
        (["applications", 0, "args"], {"gallery": "g"}, "`args.data`"),
        (["applications"], [], "expected `applications`"),
    ],
)
def test_what_does_not_hold(tmp_path, where, value, message):
    values = yaml.safe_load(FILE.read_text())
    node = values
    for part in where[:-1]:
        node = node[part]
    node[where[-1]] = value
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=message):
        config.load(tmp_path / "config.yaml")


def test_open_on_this_machine_only(gallery, tmp_path):
    data = str(tmp_path / "data")
    assert config.of_options(gallery.uri, data, "127.0.0.1", 1)["applications"][0]["args"]["access"] == "open"
    with pytest.raises(UserError, match="pusa keys add"):
        config.of_options(gallery.uri, data, "0.0.0.0", 1)
    Keys(Database(data)).add("Mia", "admin")
    for host in ("0.0.0.0", "127.0.0.1"):
        args = config.of_options(gallery.uri, data, host, 1)["applications"][0]["args"]
        assert args["access"] == "keys"
    with pytest.raises(UserError, match="no gallery"):
        config.of_options(str(tmp_path / "none"), data, "127.0.0.1", 1)


def test_key_points_are_described_as_the_gallery_has_them(tmp_path):
    gallery = Gallery.create(str(tmp_path / "antelopes"), Codebook.load("starter/codebook"), "starter/marks")
    args = config.of_options(gallery.uri, str(tmp_path / "data"), "127.0.0.1", 1)["applications"][0]["args"]
    assert ServingConfig.model_validate(args).stages.keypoints.marks == "starter/marks"
