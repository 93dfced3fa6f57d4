"""Archives drawn by Ray tasks."""

import os

import pytest

from pipelines.synth import cluster_tasks
from pusa.synthetic.archive import processes, synth
from pusa.synthetic.settings import SynthConfig

SMALL = SynthConfig(
    photos=9,
    sequences=3,
    individuals=4,
    seed=8,
    look={"width": 320, "height": 240, "length": [60, 150]},
)


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_ray_draws_the_same_bytes(cluster, tmp_path):
    written = []
    synth(tmp_path / "ray", SMALL, cluster_tasks, written.append)
    assert sum(written) == 9
    synth(tmp_path / "here", SMALL, processes(1))
    assert content(tmp_path / "ray") == content(tmp_path / "here")


def test_a_worker_that_dies_costs_nothing(cluster, tmp_path):
    """The first task to come kills its process; Ray does it again elsewhere."""
    mark = tmp_path / "died"

    def deadly(work, items):
        def dies_once(item):
            if not mark.exists():
                mark.touch()
                os._exit(1)
            return work(item)

        return cluster_tasks(dies_once, items)

    synth(tmp_path / "broken", SMALL, deadly)
    assert mark.exists()
    synth(tmp_path / "here", SMALL, processes(1))
    assert content(tmp_path / "broken") == content(tmp_path / "here")


@pytest.mark.parametrize("renderer", ["a", "b"])
def test_both_renderers_write_archives(tmp_path, renderer):
    made = synth(tmp_path / renderer, SMALL.model_copy(update={"renderer": renderer}), processes(1))
    assert made.photos == 9
    assert made.instances > 9
    assert len(list((tmp_path / renderer / "truth" / "coats").iterdir())) == 4
