"""What can be checked of a cluster without one: the plan, the wait for GPUs, and cluster.yaml by Ray's own rules."""

import copy
from pathlib import Path

import pytest
import yaml

from pipelines import cluster
from pipelines.plan import explain
from pipelines.process import ProcessConfig
from pusa.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

# Keys of EC2's RunInstances that cluster.yaml may use; Ray passes node_config on without a look, misspelt or not.
NODE_KEYS = {"InstanceType", "ImageId", "IamInstanceProfile", "BlockDeviceMappings", "InstanceMarketOptions", "KeyName",
             "SubnetId", "SecurityGroupIds", "TagSpecifications"}  # fmt: skip


def checked(config):
    """The settings as Ray's launcher takes them; raises what it would raise, or AssertionError for a node_config."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(config)))
    for name, node in config["available_node_types"].items():
        options = node["node_config"]
        assert set(options) <= NODE_KEYS, f"{name}: {set(options) - NODE_KEYS}"
        assert options.get("InstanceMarketOptions", {"MarketType": "spot"}) == {"MarketType": "spot"}, name
        assert set(options["IamInstanceProfile"]) <= {"Name", "Arn"}, name
        assert node["resources"]["CPU"] == {"2xlarge": 0, "4xlarge": 16}[options["InstanceType"].split(".")[1]], name
        assert ("GPU" in node["resources"]) == options["InstanceType"].startswith("g"), name
    return config


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_cluster_yaml_is_what_ray_wants(config):
    found = checked(config)
    types = found["available_node_types"]
    assert "InstanceMarketOptions" not in types[found["head_node_type"]]["node_config"]  # a job ends with its head
    workers = [t for name, t in types.items() if name != found["head_node_type"]]
    assert all(t["min_workers"] == 0 for t in workers)  # what nobody uses is given back
    assert sum(t["max_workers"] for t in workers) <= found["max_workers"]
    assert found["provider"]["cache_stopped_nodes"] is False
    assert "." in found["file_mounts"].values()
    commands = found["setup_commands"] + found["head_start_ray_commands"] + found["worker_start_ray_commands"]
    assert all("pip install" not in c for c in commands)  # uv.lock says what is installed
    assert any(".venv/.ready" in c for c in commands)


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ((), "max_worker", 3),  # misspelt
        ((), "max_workers", "eight"),
        ((), "head_node_type", "boss"),  # not in the list
        (("available_node_types", "gpu_spot"), "max_worker", 3),
        (("available_node_types", "gpu_spot", "node_config"), "InstanceMarketOption", {"MarketType": "spot"}),
        (("available_node_types", "gpu_spot", "node_config"), "InstanceMarketOptions", {"MarketType": "spott"}),
        (("available_node_types", "gpu_spot", "resources"), "CPU", 64),  # not what the instance has
    ],
)
def test_mistakes_in_cluster_yaml_are_found(config, where, key, value):
    node = config
    for part in where:
        node = node[part]
    node[key] = value
    with pytest.raises(Exception, match=r".+"):
        checked(config)


@pytest.fixture
def autoscaler(monkeypatch):
    """A cluster to which one GPU comes at every look; what was asked of the autoscaler."""
    asked, there = [], iter(range(100))
    monkeypatch.setattr("ray.autoscaler.sdk.request_resources", lambda bundles: asked.append(bundles))  # noqa: PLW0108
    monkeypatch.setattr(cluster, "resources", lambda: (8.0, float(next(there))))
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.0)
    return asked


def test_gpus_are_asked_for_waited_for_and_given_back(autoscaler):
    told = []
    with cluster.gpus_of_cluster(3, told.append) as there:
        assert autoscaler == [[{"GPU": 1}] * 3]
        assert there == 3
    assert told == [0, 1, 2, 3]
    assert autoscaler[-1] == []


def test_what_came_in_time_is_used(autoscaler, monkeypatch):
    monkeypatch.setattr(cluster, "resources", lambda: (8.0, 2.0))  # of three
    with cluster.gpus_of_cluster(3, lambda there: None, minutes=0.0) as there:
        assert there == 2


def test_no_gpu_comes(autoscaler, monkeypatch):
    monkeypatch.setattr(cluster, "resources", lambda: (8.0, 0.0))
    with pytest.raises(UserError, match="No GPU came"), cluster.gpus_of_cluster(3, print, minutes=0.0):
        pass
    assert autoscaler[-1] == []


@pytest.mark.parametrize(
    ("cpus", "gpus", "actors", "blocks"),
    [
        (2, 0, "2, of one thread and 0.67 CPU each", "5 of 4 photos"),  # a laptop
        (32, 0, "32, of one thread and 0.97 CPU each", "5 of 4 photos"),
        (2, 1, "2, of one thread and 0.5 GPU each", "5 of 4 photos"),
        (256, 16, "128, of one thread and 0.125 GPU each", "2 of 16 photos"),
    ],
)
def test_plan(tmp_path, cpus, gpus, actors, blocks):
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
    plan = dict(explain(str(tmp_path), str(tmp_path / "run"), ProcessConfig(), None, cpus, gpus))
    assert plan["photos"] == f"20 in {tmp_path}, 0 of them done in {tmp_path}/run"
    assert (plan["actors"], plan["blocks"]) == (actors, blocks)
    assert plan["each of them runs"].startswith("PhotoDetector > ")
    assert not (tmp_path / "run").exists()
