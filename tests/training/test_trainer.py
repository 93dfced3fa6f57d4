"""The shell around every training, with a loop that only counts."""

from pathlib import Path

import pytest

from pusa.config import Config
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
