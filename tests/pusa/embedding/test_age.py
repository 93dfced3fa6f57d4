import cv2
import numpy as np
import pytest
import torch

from pusa import weights
from pusa.embedding import age, artificial, train
from pusa.embedding.artificial import ArtificialConfig
from pusa.errors import UserError

TINY = {"coats": 2, "base": 8, "latent": 16, "steps": 60, "epoch_steps": 30, "batch": 16,
        "learning_rate": 2e-3, "workers": 0, "device": "cpu"}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A generator that has hardly learnt anything, its reports, and a set made by it."""
    folder, reports = tmp_path_factory.mktemp("age"), []
    out = age.loop(age.AgeTraining(**TINY, out=folder / "age.safetensors"), lambda m, c: reports.append(m))
    artificial.make(ArtificialConfig(age=str(out), classes=3, patches=12), folder / "set.safetensors")
    return folder, reports


def test_spread_by_hand():
    """d = 2, scaled by sqrt 2. Even: means 0, variances 1. One point twice: variance 0, kept at 1e-6."""
    even = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert age.spread(even).item() == pytest.approx(0, abs=1e-6)
    # Means sqrt 2 and 0: ((2 + 1e-6 + ln 1e6 - 1) + (0 + 1e-6 + ln 1e6 - 1)) / 2 / 2.
    same = age.spread(torch.tensor([[1.0, 0], [1, 0]])).item()
    assert same == pytest.approx((2 + 2 * np.log(1e6) - 2) / 4, abs=1e-4)


def test_shapes_and_ranges():
    z = age.on_sphere(5, 16)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(5))
    x = age.Generator(8, 16)(z)
    assert x.shape == (5, 1, 64, 64)
    assert x.abs().max() <= 1
    torch.testing.assert_close(age.Encoder(8, 16)(x).norm(dim=1), torch.ones(5))


def test_each_step_moves_its_own_network(tmp_path):
    """With no generator step the generator's weights stay; the encoder's never do."""
    task = age.AgeTask(age.AgeTraining(**TINY | {"generator_steps": 0}, out=tmp_path / "a.safetensors"))
    before = {k: v.clone() for k, v in task.modules.named_parameters()}
    task.step(age.signed(task.real[:16]), 0.0)
    moved = {k.split(".")[0] for k, v in task.modules.named_parameters() if not torch.equal(v, before[k])}
    assert moved == {"encoder"}


def test_training_reports_draws_and_saves(trained):
    folder, reports = trained
    assert [m["step"] for m in reports] == [30, 60]
    assert all(0 <= m["error"] <= 1 and np.isfinite(m["loss_match_z"]) for m in reports)
    assert cv2.imread(str(folder / "age.samples.png")).shape == (8 * 68, 12 * 68, 3)
    assert cv2.imread(str(folder / "age.reconstructions.png")).shape[1:] == (12 * 68, 3)
    assert weights.load(str(folder / "age.safetensors"), "age").settings == {"network": {"base": 8, "latent": 16}}


def test_a_set_is_made_again_from_seed_and_weights(trained):
    folder, _ = trained
    config = ArtificialConfig(age=str(folder / "age.safetensors"), classes=3, patches=12)
    artificial.make(config, folder / "again.safetensors")
    artificial.make(config.model_copy(update={"seed": 1}), folder / "other.safetensors")
    first, again, other = (artificial.read(folder / f"{n}.safetensors") for n in ("set", "again", "other"))
    assert np.array_equal(first.patches, again.patches)
    assert not np.array_equal(first.patches, other.patches)
    assert [m.tolist() for m in first.members] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    member = first.member(1, 6, np.random.default_rng(0), 0)
    assert np.array_equal(member, first.patches[6])  # of 4, 5, 6, 7 the one with the number 6 modulo 4


@pytest.mark.parametrize(
    "settings",
    [
        {"coats": 0},
        train.PAPER.model_dump(exclude_unset=True),  # the paper's schedule: full margin at once, by steps
    ],
)
def test_training_on_a_set(trained, tmp_path, settings):
    config = train.EmbeddingTraining(**settings | {
        "artificial": (trained[0] / "set.safetensors",), "network": {"width": 8}, "steps": 2, "epoch_steps": 2,
        "batch": 4, "workers": 0, "device": "cpu", "out": tmp_path / "e.safetensors",
    })  # fmt: skip
    reports = []
    train.loop(config, lambda m, c: reports.append(m))
    assert np.isfinite(reports[0]["loss"])


@pytest.mark.parametrize(
    ("bits", "labels", "message"),
    [
        (np.eye(512, dtype=np.uint8)[:4], [0, 0, 0, 0], "two classes or more"),  # one class
        (np.eye(512, dtype=np.uint8)[:4], [0, 0, 0, 1], "two patches or more each"),  # a class of one
        (np.zeros((4, 512), np.uint8), [0, 0, 1, 1], "all black or all white"),  # constant patches
        (np.eye(512, dtype=np.uint8)[:4], [0, 0, 1], "4 patches and 3 labels"),
        (np.zeros((0, 512), np.uint8), [], "two classes or more"),  # no patch at all
    ],
)
def test_sets_that_cannot_be_learnt_from(tmp_path, bits, labels, message):
    tensors = {"patches": torch.from_numpy(bits), "labels": torch.tensor(labels, dtype=torch.int64)}
    weights.save(tmp_path / "set.safetensors", "patches", {}, tensors)
    with pytest.raises(UserError, match=message):
        artificial.read(tmp_path / "set.safetensors")


def test_a_truncated_set_is_not_taken_for_whole(trained, tmp_path):
    whole = (trained[0] / "set.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        artificial.read(tmp_path / "half.safetensors")


@pytest.mark.parametrize(("classes", "patches"), [(1, 10), (10, 10), (0, 10)])
def test_impossible_sets(classes, patches, tmp_path):
    with pytest.raises(UserError, match="two classes or more"):
        artificial.make(ArtificialConfig(age="x", classes=classes, patches=patches), tmp_path / "s.safetensors")


def test_too_few_patches(tmp_path):
    with pytest.raises(UserError, match="patches to learn from"):
        age.AgeTask(age.AgeTraining(**TINY | {"batch": 500, "coats": 1}, out=tmp_path / "a.safetensors"))
