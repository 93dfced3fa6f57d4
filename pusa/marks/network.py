"""The network that describes marks: six convolutions over the grey surroundings of a key point (as HardNet, Mishchuk
2017, with half its width and one layer less: a crop has 300 key points).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIDE = 32  # px of a mark's surroundings
LENGTH = 128  # numbers of a descriptor, as many as SIFT's


class MarkNetwork(nn.Module):
    """Surroundings (n, 1, 32, 32), grey values of any range, to descriptors (n, 128) float32, rows of length 1.

    Each picture is brought to mean 0 and deviation 1 first, so brightness and contrast say nothing. `span`: sizes of
    the key point that its surroundings measure. `upright`: they are turned by the body's angle in the picture, not by
    the key point's own, which faint marks do not keep from photo to photo.
    """

    def __init__(self, width: int = 16, span: float = 6.0, upright: bool = False) -> None:
        super().__init__()
        self.span, self.upright = span, upright
        layers: list[nn.Module] = []
        before = 1
        for channels, stride in ((width, 1), (2 * width, 2), (2 * width, 1), (4 * width, 2), (4 * width, 1)):
            layers += [nn.Conv2d(before, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels, affine=False)]
            layers += [nn.ReLU()]
            before = channels
        layers += [nn.Dropout(0.1), nn.Conv2d(before, LENGTH, SIDE // 4, bias=False)]
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(LENGTH, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        deviation, mean = torch.std_mean(x, (1, 2, 3), keepdim=True)
        x = ((x - mean) / (deviation + 1e-3)).to(next(self.parameters()).dtype)
        found = self.layers(x.contiguous(memory_format=torch.channels_last))
        return nn.functional.normalize(found.flatten(1).float(), dim=1)
