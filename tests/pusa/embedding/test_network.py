import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pusa.embedding.network import GeM, PatchNetwork, SecondOrderAttention, soft_pool
from pusa.errors import UserError


def test_soft_pool_by_hand():
    # One window 0, ln 2, ln 3, ln 4 of weights 1, 2, 3, 4: sum(w x) / sum(w).
    x = torch.tensor([[0.0, np.log(2)], [np.log(3), np.log(4)]])[None, None].float()
    expected = (2 * np.log(2) + 3 * np.log(3) + 4 * np.log(4)) / 10
    assert soft_pool(x, 2, 2, 0).item() == pytest.approx(expected, rel=1e-6)


def test_soft_pool_against_the_formula():
    x = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0)) * 4
    ones = torch.ones_like(x)

    def window_sum(values):
        return F.avg_pool2d(values, 3, 2, 1, count_include_pad=True) * 9

    expected = window_sum(x.exp() * x) / window_sum(x.exp() * ones)  # zero padding adds nothing to either sum
    torch.testing.assert_close(soft_pool(x), expected)


@pytest.mark.parametrize("value", [-5e3, 0.0, 5e3])
def test_soft_pool_neither_overflows_nor_sees_the_edge(value):
    x = torch.full((1, 1, 6, 6), value)
    torch.testing.assert_close(soft_pool(x), torch.full((1, 1, 3, 3), value))


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (1.0, 2.5),  # the mean
        (3.0, (100 / 4) ** (1 / 3)),  # (1 + 8 + 27 + 64) / 4
        (20.0, 4 * (1 / 4) ** (1 / 20)),  # nearly the maximum of 4, by a quarter of the positions
    ],
)
def test_gem_by_hand(p, expected):
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    assert GeM(p)(x).item() == pytest.approx(expected, rel=1e-3)


def test_attention_starts_as_identity_and_then_follows_the_formula():
    torch.manual_seed(0)
    block = SecondOrderAttention(8, reduction=2).eval()
    x = torch.rand(2, 8, 3, 5)
    torch.testing.assert_close(block(x), x)
    torch.nn.init.normal_(block.v.weight)
    f, g, h = block.f(x).flatten(2), block.g(x).flatten(2), block.h(x).flatten(2)
    similarity = torch.einsum("bci,bcj->bij", f, g) / np.sqrt(4)
    mixed = torch.einsum("bij,bcj->bci", similarity.softmax(dim=2), h)
    torch.testing.assert_close(block(x), x + block.v(mixed.view(2, 4, 3, 5)))


@pytest.mark.parametrize(
    "settings", [{}, {"last_stride": 1}, {"stem_stride": 1}, {"input_size": 96}, {"input_size": 32}]
)
def test_vectors_have_length_one(settings):
    torch.manual_seed(0)
    network = PatchNetwork(width=8, **settings).eval()
    with torch.inference_mode():
        vectors = network(torch.stack([torch.zeros(1, 64, 64), torch.ones(1, 64, 64)]))  # constant patches too
    assert vectors.shape == (2, 512)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


def test_patches_are_scaled_in_bfloat16_too():
    torch.manual_seed(0)
    network = PatchNetwork(width=8, input_size=96).eval()
    patches = (torch.rand(4, 1, 64, 64) < 0.3).float()
    with torch.inference_mode():
        exact, fast = network(patches), network.bfloat16()(patches.bfloat16())
    assert (exact * fast.float()).sum(dim=1).min() > 0.98  # cosine


def test_full_width_has_the_residual_part_of_resnet_18():
    import torchvision

    ours, theirs = PatchNetwork(width=64), torchvision.models.resnet18(weights=None)
    stages = sum(p.numel() for p in ours.stages.parameters())
    assert stages == sum(p.numel() for i in range(1, 5) for p in getattr(theirs, f"layer{i}").parameters())


def test_a_width_that_does_not_work_is_named():
    with pytest.raises(UserError, match="multiple of 8"):
        PatchNetwork(width=20)
