"""The frame of a training, with a task that can be worked out by hand: one weight w, loss (w - x)^2."""

import contextlib
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.utils.data import Dataset

from pusa import steps
from pusa.config import has_bfloat16
from pusa.errors import UserError
from pusa.steps import StepConfig, Task, run


class Numbers(Dataset):
    """Item p is the number p."""

    def __getitem__(self, p):
        return torch.tensor([float(p)])


class Fit(Task):
    best = "score"
    scores = (1.0, 3.0, 2.0)

    def __init__(self, config):
        super().__init__(config)
        self.layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.layer.weight, 0.0)
        self.modules = nn.ModuleDict({"layer": self.layer})
        self.optimizer = torch.optim.SGD(self.modules.parameters(), lr=1.0)
        self.saved, self.validated = [], 0

    def data(self):
        return Numbers()

    def rate(self, progress):
        return 1.0

    def loss(self, batch, progress):
        return {"loss": ((self.layer.weight - batch) ** 2).mean()}

    def validate(self):
        self.validated += 1
        return {"score": self.scores[(self.validated - 1) % 3]}

    def save(self):
        self.saved.append(self.layer.weight.item())


def settings(out, **changes):
    values = {"out": out, "steps": 3, "epoch_steps": 1, "batch": 2, "learning_rate": 0.25, "weight_decay": 0,
              "clip": 1e9, "workers": 0, "log_every": 0, "device": "cpu"}  # fmt: skip
    return StepConfig(**values | changes)


def ignore(measured, checkpoint):
    pass


def test_steps_by_hand(tmp_path):
    """w moves by 0.25 of 2 (mean of the items - w), so half way to the mean: 0.5, 2.5, 4.5 of items 0 1, 2 3, 4 5."""
    task, reports = Fit(settings(tmp_path / "w.safetensors")), []
    assert run(task, lambda m, c: reports.append(m)) == tmp_path / "w.safetensors"
    assert task.layer.weight.item() == pytest.approx(((0.25 + 2.5) / 2 + 4.5) / 2)
    assert [m["step"] for m in reports] == [1, 2, 3]
    assert reports[0]["loss"] == pytest.approx((0 + 1) / 2)
    # The second epoch has the best score: its weights are kept.
    assert task.saved == pytest.approx([0.25, (0.25 + 2.5) / 2])
    assert (tmp_path / "w.curves.png").stat().st_size > 1000


def test_a_resumed_run_goes_on_with_the_next_items_and_remembers_the_best(tmp_path):
    whole = Fit(settings(tmp_path / "whole.safetensors"))
    run(whole, ignore)
    broken = Fit(settings(tmp_path / "broken.safetensors"))

    def stop(measured, checkpoint):
        if measured["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(broken, stop)
    again = Fit(settings(tmp_path / "broken.safetensors"))
    again.validated = 2
    run(again, ignore, resume=tmp_path / "broken.checkpoint")
    assert torch.equal(again.layer.weight, whole.layer.weight)
    assert again.saved == []  # the third epoch is not better than the second


def test_a_finished_run_is_not_trained_further(tmp_path):
    run(Fit(settings(tmp_path / "w.safetensors")), ignore)
    again = Fit(settings(tmp_path / "w.safetensors"))
    reports = []
    run(again, lambda m, c: reports.append(m), resume=tmp_path / "w.checkpoint")
    assert reports == []


def test_nothing_to_resume(tmp_path):
    with pytest.raises(UserError, match="no training to resume"):
        run(Fit(settings(tmp_path / "w.safetensors")), ignore, resume=tmp_path)


def test_progress_line(tmp_path, capsys):
    run(Fit(settings(tmp_path / "w.safetensors", log_every=1)), ignore)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("step 1  loss 0.500")
    assert "steps/s" in lines[0]
    assert "min left" in lines[0]


def _worker(rank, world, folder):
    """One of several workers; writes its weight and what it reported."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    task = Fit(settings(folder / "w.safetensors", batch=2 // world, steps=3 * world, epoch_steps=world))
    if rank:
        nn.init.constant_(task.layer.weight, 99.0)  # the first worker's counts
    reports = []
    run(task, lambda m, c: reports.append((len(m) > 0, c is not None)))
    np.save(folder / f"{rank}.npy", task.layer.weight.detach().numpy())
    (folder / f"{rank}.txt").write_text(str(reports))
    dist.destroy_process_group()


@pytest.mark.skipif(sys.platform == "win32", reason="gloo over loopback")
def test_two_workers_of_one_item_do_the_steps_of_one_worker_of_two(tmp_path):
    mp.spawn(_worker, (2, tmp_path), nprocs=2)
    alone = Fit(settings(tmp_path / "alone.safetensors"))
    run(alone, ignore)
    weights = [np.load(tmp_path / f"{rank}.npy").item() for rank in (0, 1)]
    assert weights == pytest.approx([alone.layer.weight.item()] * 2)
    assert (tmp_path / "0.txt").read_text() == str([(True, True)] * 3)
    assert (tmp_path / "1.txt").read_text() == str([(False, False)] * 3)  # every worker reports, the first one says


@pytest.mark.parametrize(
    ("workers", "epochs"),
    [
        ((1, 1, 1, 1), (3, 6, 9, 12)),
        ((3, 3), (3, 6, 9, 12)),
        ((2, 2, 2), (4, 6, 10, 12)),  # the second step of two passes the third
        ((2, 1, 2), (4, 6, 10, 12)),  # one of them was lost in the second epoch, and another came for the third
        ((5,), (5, 10, 15)),
    ],
)
def test_however_many_workers_come_and_go_a_training_sees_the_same_items(tmp_path, monkeypatch, workers, epochs):
    """12 steps of 2 items, an epoch every 3; the number of workers of each session of a training."""
    config, reports = settings(tmp_path / "w.safetensors", steps=12, epoch_steps=3), []

    def report(measured, checkpoint):
        reports.append(int(measured["step"]))
        if len(reports) < len(workers):
            raise KeyboardInterrupt

    monkeypatch.setattr(steps, "equalise", lambda module: None)
    monkeypatch.setattr(steps, "average_gradients", lambda parameters: None)
    monkeypatch.setattr(steps, "agreed", lambda progress: progress)
    for session, number in enumerate(workers):
        monkeypatch.setattr(steps, "world", lambda number=number: number)
        resume = tmp_path / "w.checkpoint" if session else None
        with contextlib.suppress(KeyboardInterrupt):
            run(Fit(config), report, resume)
    assert tuple(reports) == epochs


def test_items_of_workers(monkeypatch):
    monkeypatch.setattr(steps, "world", lambda: 3)
    orders = []
    for rank in range(3):
        monkeypatch.setattr(steps, "rank", lambda rank=rank: rank)
        order = steps.order_of(100, 2)
        orders.append([next(order) for _ in range(4)])
    assert orders == [[100, 101, 106, 107], [102, 103, 108, 109], [104, 105, 110, 111]]


@pytest.mark.parametrize(
    ("wanted", "dtype"),
    [
        (True, torch.bfloat16),
        (False, torch.float32),
        (None, torch.bfloat16 if has_bfloat16(torch.device("cpu")) else torch.float32),  # as this machine computes
    ],
)
def test_number_type_of_a_training(tmp_path, wanted, dtype):
    task = Fit(settings(tmp_path / "w.safetensors", bfloat16=wanted))
    with task.autocast():
        assert task.layer(torch.ones(1, 1)).dtype == dtype
    assert task.layer.weight.dtype == torch.float32  # what is trained stays exact
