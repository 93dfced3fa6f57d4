"""What a run tells of itself: metrics as Ray really serves them, the dashboard that shows them, the log, the cost."""

import json
import re
import time
import urllib.request
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.pool import SECONDS, StageActor, seconds_of
from pipelines.runlog import RunLog
from pusa.records import Run

DASHBOARD = Path(__file__).resolve().parents[2] / "docs" / "grafana.json"
GPU = {"ray_node_gpus_utilization": {"ip", "GpuIndex"}}  # served only where there is a GPU


class Double:
    """A stage: doubles x, in 10 ms."""

    def __call__(self, batch):
        time.sleep(0.01)
        return batch.set_column(0, "x", pa.array([2 * x for x in batch["x"].to_pylist()]))


class Again(Double):
    """The next stage."""


def row(photos, errors=(), **seconds):
    named = {SECONDS + stage: value for stage, value in seconds.items()}
    return {"block": "b", "photos": photos, "instances": 2 * photos, "errors": list(errors), **named}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = Run(str(tmp_path_factory.mktemp("run")))
    run.write_manifest({"seconds": 0.0})
    return run


@pytest.fixture(scope="module")
def streamed(cluster, run):
    """Rows that went through a pool, and a run's log of two blocks and a shard."""
    import ray

    rows = (
        ray.data.from_arrow([pa.table({"x": [1, 2]})] * 4)
        .map_batches(
            StageActor,
            fn_constructor_kwargs={"stages": [(Double, {}), (Again, {})], "run": "streamed"},
            batch_size=2,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=1),
            num_cpus=0.5,
        )
        .take_all()
    )
    log = RunLog(run, run.manifest(), cpus=2.0, gpus=0.0)
    log.row(row(3, PhotoDetector=1.5, PhotoWriter=0.25), left=2)
    log.row(row(2, ["empty file"], PhotoDetector=0.5), left=0)
    log.row({SECONDS + "ShardEncoder": 0.125})
    log.event("finished", photos=5)
    log.write()
    return rows


@pytest.fixture(scope="module")
def served(streamed):
    """Labels by metric, as this node's endpoint serves them to Prometheus."""
    import ray

    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    wanted, end = {"ray_pusa_errors_total", "ray_pusa_stage_seconds_total", "ray_data_num_tasks_failed"}, 0
    while True:  # they come every few seconds; a node that serves none is stopped by the test run's limit
        found: dict[str, set[str]] = {}
        for line in urllib.request.urlopen(address, timeout=10).read().decode().splitlines():
            if match := re.match(r"(ray_\w+)(?:\{(.*)\})? ", line):
                found.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
        if wanted <= found.keys() and "ray_node_cpu_utilization" in found:
            return found
        end += 1
        assert end < 60, f"not served after a minute: {wanted - found.keys()}"
        time.sleep(1)


def queries(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def unknown(query, served):
    """Metrics of a query that nobody serves, and labels of it that none of its metrics has."""
    metrics = set(re.findall(r"\bray_\w+", query))
    labels = set(re.findall(r"\{(\w+)=", query)) | {
        label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")
    }
    have = set().union(*(served.get(metric, set()) for metric in metrics))
    return (metrics - served.keys()) | (labels - have)


def test_every_metric_of_the_dashboard_is_served(served):
    found = queries(json.loads(DASHBOARD.read_text()))
    assert len(found) >= 12
    assert {query: wrong for query in found if (wrong := unknown(query, served | GPU))} == {}


@pytest.mark.parametrize(
    "query",
    [
        "rate(ray_pusa_photo_total[1m])",  # misspelt
        "rate(ray_pusa_stage_seconds[1m])",  # Ray adds _total to counters
        "sum by (stages) (ray_pusa_stage_seconds_total)",  # no such label
        'ray_pusa_photos_left{runs=~"$run"}',
    ],
)
def test_a_mistake_in_a_query_is_found(served, query):
    assert unknown(query, served)


def test_the_dashboard_is_one_that_grafana_can_load():
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["title"] == "Pusa"
    assert dashboard["schemaVersion"] >= 30
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [(p["gridPos"]["x"] + x, p["gridPos"]["y"] + y) for p in panels
             for x in range(p["gridPos"]["w"]) for y in range(p["gridPos"]["h"])]  # fmt: skip
    assert len(set(cells)) == len(cells)  # no panel lies on another
    assert max(x for x, _ in cells) < 24  # Grafana's columns
    variables = {v["name"] for v in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard))) - {"__rate_interval", "__all"} == variables


def test_an_actor_tells_what_its_stages_took(streamed):
    assert sorted(r["x"] for r in streamed) == [4, 4, 4, 4, 8, 8, 8, 8]
    # Each row has half of its batch's 10 ms or more, of each stage.
    assert all(seconds_of(r).keys() == {"Double", "Again"} for r in streamed)
    assert all(seconds >= 0.005 for r in streamed for seconds in seconds_of(r).values())


def test_the_log_has_a_line_for_everything(run, streamed):
    (file,) = Path(run.path, "log").glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["begun", "block", "block", "shard", "finished"]
    assert {line["run"] for line in lines} == {run.manifest()["run_id"]}
    assert lines[1]["seconds"] == {"PhotoDetector": 1.5, "PhotoWriter": 0.25}
    assert lines[2]["reasons"] == ["empty file"]


def test_the_manifest_says_what_it_cost(run, streamed):
    cost = run.manifest()["cost"]
    assert (cost["photos"], cost["instances"], cost["errors"]) == (5, 10, 1)
    assert cost["stages"] == {"PhotoDetector": 2.0, "PhotoWriter": 0.25, "ShardEncoder": 0.125}
    assert cost["gpu_seconds"] == 0
    before = run.manifest()["run_id"]
    again = RunLog(run, run.manifest(), cpus=4.0, gpus=0.0)  # a second session goes on counting
    again.row(row(1, PhotoDetector=1.0), left=0)
    again.clock -= 10  # ten seconds with four cores
    again.write()
    assert run.manifest()["run_id"] == before
    assert run.manifest()["cost"]["stages"]["PhotoDetector"] == 3.0
    assert run.manifest()["cost"]["photos"] == 6
    assert run.manifest()["cost"]["core_seconds"] == pytest.approx(cost["core_seconds"] + 40, abs=2)


def test_seconds_of_a_row():
    assert seconds_of(row(1, A=1, B=2.5)) == {"A": 1.0, "B": 2.5}
