import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from pusa.efficientnet_lite import EfficientNetLite0, conv_bn, imagenet_weights


def test_strides_and_channels():
    maps = EfficientNetLite0().features(torch.zeros(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(2, 24, 16, 24), (2, 40, 8, 12), (2, 112, 4, 6), (2, 320, 2, 3)]


def test_parameters_with_classifier_are_those_published():
    network = EfficientNetLite0(classifier=True)
    norm = sum(m.weight.numel() * 2 for m in network.modules() if isinstance(m, FrozenBatchNorm2d))
    # d-li14/efficientnet-lite.pytorch gives 4.652 M, batch norm's weights and biases included.
    assert sum(p.numel() for p in network.parameters()) + norm == 4_652_008


def test_imagenet_weights_fill_every_tensor():
    network = EfficientNetLite0(pretrained=True, classifier=True).eval()
    stored = imagenet_weights(classifier=True)
    assert set(stored) == set(network.state_dict())
    assert set(imagenet_weights()) == {k for k in stored if not k.startswith(("conv_head", "bn1", "fc"))}


def test_imagenet_weights_see_a_flat_scene_and_not_noise():
    """With wrong normalisation, padding or order of tensors the maps die or explode; a trained network does neither."""
    network = EfficientNetLite0(pretrained=True).eval()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        deviations = [float(m.std()) for m in network.features(x)]
    assert all(0.1 < d < 30 for d in deviations), deviations


def test_batch_norm_is_folded_without_change():
    torch.manual_seed(0)
    conv, bn = nn.Conv2d(3, 4, 3, bias=False), FrozenBatchNorm2d(4, eps=1e-3)
    bn.weight, bn.bias, bn.running_mean, bn.running_var = torch.rand(4), torch.rand(4), torch.rand(4), torch.rand(4)
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(conv_bn(x, conv, bn), bn(F.conv2d(x, conv.weight, padding=1)))


def test_strided_convolutions_pad_the_far_side():
    """Kernel 3, stride 2, size 4: TensorFlow's first window starts at pixel 0, PyTorch's usual one at pixel -1."""
    conv, bn = nn.Conv2d(1, 1, 3, 2, bias=False), FrozenBatchNorm2d(1, eps=0)
    nn.init.zeros_(conv.weight)
    conv.weight.data[0, 0, 0, 0] = 1  # picks the upper left pixel of each window
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert conv_bn(x, conv, bn).flatten().tolist() == [0, 2, 8, 10]
    conv = nn.Conv2d(1, 1, 5, 2, bias=False)
    nn.init.zeros_(conv.weight)
    conv.weight.data[0, 0, 1, 1] = 1  # kernel 5 pads one pixel before, two after
    assert conv_bn(x, conv, bn).flatten().tolist() == [0, 2, 8, 10]
