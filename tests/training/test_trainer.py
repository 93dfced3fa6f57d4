"""The shell around every training: with a loop that only counts, and with one that trains and is killed."""

import os
import signal
from pathlib import Path

import pytest
import torch

from pusa import weights
from pusa.config import Config
from pusa.embedding import train
from training.trainer import fit


class Counting(Config):
    epochs: int
    log: Path
    dies: bool = False


def counting(config, report, resume=None):
    """Writes a line an epoch; its checkpoint is the number of epochs done. With `dies`, fails once after the second."""
    done = int((resume / "epoch").read_text()) if resume else 0
    folder = config.log.with_suffix(".checkpoint")
    folder.mkdir(exist_ok=True)
    for epoch in range(done, config.epochs):
        with config.log.open("a") as log:
            log.write(f"{epoch}\n")
        (folder / "epoch").write_text(str(epoch + 1))
        report({"epoch": epoch}, folder)
        if config.dies and epoch == 1 and not config.log.with_suffix(".died").exists():
            config.log.with_suffix(".died").touch()
            raise RuntimeError("a fault, injected")


@pytest.mark.parametrize("dies", [False, True])
def test_a_training_runs_and_goes_on_after_a_fault(cluster, tmp_path, dies):
    config = Counting(epochs=3, log=tmp_path / "epochs", dies=dies)
    fit(counting, config, tmp_path / "run")
    epochs = config.log.read_text().split()
    # A report that returned may not be registered when the worker dies: an epoch may be done again, none is left out.
    assert sorted(set(epochs)) == ["0", "1", "2"]
    assert len(epochs) <= (3 if not dies else 5)
    assert epochs[-1] == "2"


def sharing(config, report, resume=None):
    """Every worker adds a line with its rank and the sum over all ranks."""
    import torch
    import torch.distributed as dist

    total = torch.tensor(float(dist.get_rank() + 1))
    dist.all_reduce(total)
    with config.log.open("a") as log:
        log.write(f"{dist.get_rank()} of {dist.get_world_size()}: {total.item():.0f}\n")
    report({"epoch": 0} if dist.get_rank() == 0 else {}, None)


def test_several_workers_share_a_training(cluster, tmp_path):
    config = Counting(epochs=1, log=tmp_path / "shares")
    fit(sharing, config, tmp_path / "run", workers=2)
    assert sorted(config.log.read_text().splitlines()) == ["0 of 2: 3", "1 of 2: 3"]


TINY = {"coats": 2, "network": {"width": 8}, "versions": 2, "validation_places": 0, "steps": 6, "epoch_steps": 2,
        "batch": 8, "workers": 0, "device": "cpu"}  # fmt: skip


def killed(config, report, resume=None):
    """The training of the patch network; its process is killed once, in mid-run, one step after a checkpoint."""
    mark = config.out.with_suffix(".killed")

    class Dying(train.EmbeddingTask):
        def step(self, batch, progress):
            parts = super().step(batch, progress)
            with config.out.with_suffix(".steps").open("a") as log:
                log.write(f"{progress * config.steps:.0f}\n")
            if progress * config.steps > 4.5 and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return parts

    train.run(Dying(config), report, resume)


def test_a_killed_worker_costs_what_was_done_since_the_checkpoint(cluster, tmp_path):
    config = train.EmbeddingTraining(**TINY, out=tmp_path / "killed.safetensors")
    fit(killed, config, tmp_path / "run")
    assert config.out.with_suffix(".killed").exists()
    steps = [int(step) for step in config.out.with_suffix(".steps").read_text().split()]
    assert steps[:6] == [0, 1, 2, 3, 4, 5]
    assert steps[6:] in ([4, 5], [2, 3, 4, 5])  # the last checkpoint, or the one before, as far as Ray had noted it
    undisturbed = config.model_copy(update={"out": tmp_path / "undisturbed.safetensors"})
    undisturbed.out.with_suffix(".killed").touch()
    fit(killed, undisturbed, tmp_path / "run")
    first, second = (weights.load(str(c.out), "embedding").tensors for c in (config, undisturbed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
