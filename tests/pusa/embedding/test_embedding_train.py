import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss

from pusa import weights
from pusa.embedding import train
from pusa.embedding.embed import load
from pusa.pattern import extract

TINY = {
    "coats": 2, "versions": 2, "validation_places": 8, "network": {"width": 8}, "steps": 4, "epoch_steps": 2,
    "batch": 8, "workers": 0, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def places():
    return train.draw_places(train.EmbeddingTraining(versions=2), 0, 2)


def test_members_are_patches_with_lines_of_four_pixels(places):
    rng = np.random.default_rng(0)
    members = np.stack([places.member(c, turn, rng) for c in range(len(places)) for turn in range(4)])
    assert members.shape[1:] == (64, 64)
    assert members.dtype == bool
    assert 0.1 < members.mean() < 0.45
    sheet = members[:48].reshape(6, 8, 64, 64).swapaxes(1, 2).reshape(6 * 64, 8 * 64)
    assert extract.thickness(sheet) == pytest.approx(4, abs=0.8)


def test_same_seed_same_members(places):
    again = train.draw_places(train.EmbeddingTraining(versions=2), 0, 2)
    for c in range(len(places)):
        first, second = (p.member(c, 0, np.random.default_rng(c)) for p in (places, again))
        assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("similar", "expected"),
    [
        # Query 0 finds its own first, query 1 second, so precision is (1 + 1/2) / 2.
        ([[0.9, 0.1], [0.8, 0.5]], {"recall@1": 0.5, "recall@5": 1.0, "mAP": 0.75}),
        ([[0.9, 0.1], [0.1, 0.9]], {"recall@1": 1.0, "recall@5": 1.0, "mAP": 1.0}),
        ([[0.5, 0.5], [0.5, 0.5]], {"recall@1": 0.0, "recall@5": 1.0, "mAP": 0.5}),  # ties count against
    ],
)
def test_retrieval(similar, expected):
    assert train.retrieval(np.array(similar), np.eye(2)) == expected


def test_margin_sets_in_gradually():
    loss = train.SphereFace(3, 4, margin=4)
    cosine = torch.cos(torch.tensor([0.1, 0.5, 1.0, 2.0]))
    # psi of SphereFace, equation 7: (-1)^k cos(4 t) - 2 k, k = floor(4 t / pi), here 0, 0, 1, 2.
    angle, k = torch.tensor([0.1, 0.5, 1.0, 2.0]), torch.tensor([0, 0, 1, 2])
    psi = (-1.0) ** k * torch.cos(4 * angle) - 2 * k
    for share in (0.0, 0.25, 1.0):
        loss.share = share
        found = loss.modify_cosine_of_target_classes(cosine).float()
        torch.testing.assert_close(found, share * psi + (1 - share) * cosine)


@pytest.mark.parametrize(
    "labels",
    [
        [0, 0, 1, 1, 2, 2],  # pairs, as in a training batch
        [0, 0, 0, 1, 1, 2],  # a class of three, and one without a pair
        [0, 1, 2, 3, 4, 5],  # no pair: nothing to learn
    ],
)
def test_nt_xent_is_the_library_s(labels):
    start = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    mine = train.nt_xent(torch.nn.functional.normalize(ours, dim=1), torch.tensor(labels), 0.07)
    reference = NTXentLoss(0.07)(theirs, torch.tensor(labels))
    torch.testing.assert_close(mine, reference)
    mine.backward()
    reference.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_loop_learns_reports_and_saves(tmp_path):
    reports = []
    config = train.EmbeddingTraining(**TINY, out=tmp_path / "e.safetensors")
    path = train.loop(config, report=lambda m, c: reports.append((m, c)))
    assert [m["step"] for m, _ in reports] == [2, 4]
    assert all(np.isfinite(m["loss"]) and 0 <= m["recall@1"] <= 1 for m, _ in reports)
    assert weights.load(str(path), "embedding").settings == {"network": {"width": 8}}
    load(str(path))


def test_resumed_run_ends_like_an_unbroken_one(tmp_path):
    whole = train.loop(train.EmbeddingTraining(**TINY, out=tmp_path / "whole.safetensors"), lambda m, c: None)

    def stop(measured, checkpoint):
        raise KeyboardInterrupt

    config = train.EmbeddingTraining(**TINY, out=tmp_path / "broken.safetensors")
    with pytest.raises(KeyboardInterrupt):
        train.loop(config, stop)
    resumed = train.loop(config, lambda m, c: None, resume=tmp_path / "broken.checkpoint")
    first, second = (weights.load(str(p), "embedding").tensors for p in (whole, resumed))
    assert all(torch.equal(first[k], second[k]) for k in first)
