"""Patch network: ResNet-18 with SoftPool, second-order attention, GeM, 512 numbers of length 1 (method: section 4).

SoftPool: Stergiou 2021. Second-order attention: Ng 2020 (SOLAR). GeM: Radenovic 2018. Residual network: He 2016.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pusa.errors import UserError

DIMENSIONS = 512


def soft_pool(x: Tensor, kernel: int = 3, stride: int = 2, padding: int = 1) -> Tensor:
    """Mean of each window of x (B, C, H, W), weighted by the softmax of its values; nothing weighs beyond the edge."""
    lowest = torch.finfo(torch.float16).min  # finite: 0 x -inf would be NaN
    padded = F.pad(x, (padding,) * 4, value=lowest)
    largest = F.max_pool2d(x, kernel, stride, padding)
    height, width = largest.shape[-2:]
    total, weights = torch.zeros_like(largest), torch.zeros_like(largest)
    # Position by position of the window: a third of the time of unfolding all windows.
    for i, j in itertools.product(range(kernel), repeat=2):
        values = padded[..., i : i + stride * height : stride, j : j + stride * width : stride][..., :height, :width]
        weight = (values - largest).exp()  # at most 1: no overflow
        total = total + weight * values
        weights = weights + weight
    return total / weights


class GeM(nn.Module):
    """Generalised mean over positions, (B, C, H, W) -> (B, C); p is learnable: 1 is the mean, infinity the maximum."""

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float().clamp(min=1e-6)  # powers in float32, whatever the network runs in
        p = self.p.float()
        return x.pow(p).mean(dim=(-2, -1)).pow(1 / p)


class SecondOrderAttention(nn.Module):
    """Adds to each position of (B, C, H, W) a mixture of all positions, by their similarity (SOLAR, eq. 2).

    Starts as the identity: the last convolution is 0. `reduction`: C / channels within.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        middle = channels // reduction
        self.f = nn.Sequential(nn.Conv2d(channels, middle, 1), nn.BatchNorm2d(middle), nn.ReLU(inplace=True))
        self.g = nn.Sequential(nn.Conv2d(channels, middle, 1), nn.BatchNorm2d(middle), nn.ReLU(inplace=True))
        self.h = nn.Conv2d(channels, middle, 1)
        self.v = nn.Conv2d(middle, channels, 1)
        for parameter in self.v.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part(x).flatten(2).transpose(1, 2) for part in (self.f, self.g, self.h))
        mixed = F.scaled_dot_product_attention(query, key, value)  # softmax(q k^T / sqrt(middle)) v
        return x + self.v(mixed.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:]))


class _Block(nn.Module):
    """Basic residual block: two 3x3 convolutions around a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential()
        if stride > 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x), inplace=True)


class PatchNetwork(nn.Module):
    """(B, 1, 64, 64) patches in [0, 1] -> (B, 512) float32 of length 1.

    `width`: channels of the first stage, doubled at each of four: 64 = ResNet-18, 32 = half width; a multiple of 8.
    `stem_stride`, `last_stride`: of the first convolution and of stage 4. ResNet-18's 2 and 2 leave a patch of 64 px a
    map of 2 x 2 at the end; `last_stride` 1 keeps 4 x 4, `stem_stride` 1 doubles the maps of all stages.
    `input_size`: px, to which patches are scaled before the first convolution.
    """

    def __init__(self, width: int = 64, stem_stride: int = 2, last_stride: int = 2, input_size: int = 64) -> None:
        super().__init__()
        self.input_size = input_size
        if width % 8:  # also because oneDNN 3's strided 1x1 convolution of 4 channels, channels last, corrupts memory
            raise UserError(f"The width of the patch network is {width}; expected a multiple of 8, such as 32 or 64.")
        widths = [width * 2**i for i in range(4)]
        self.conv1 = nn.Conv2d(1, width, 7, stem_stride, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stages = nn.ModuleList(
            nn.Sequential(_Block(a, b, stride), _Block(b, b, 1))
            for a, b, stride in zip([width, *widths], widths, (1, 2, 2, last_stride), strict=False)
        )
        self.attention3 = SecondOrderAttention(widths[2], reduction=2)
        self.attention4 = SecondOrderAttention(widths[3], reduction=4)
        self.pool = GeM()
        self.fc = nn.Linear(widths[3], DIMENSIONS)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module not in (self.attention3.v, self.attention4.v):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.input_size:
            x = F.interpolate(x, (self.input_size, self.input_size), mode="bilinear")
        x = soft_pool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        x = self.stages[1](self.stages[0](x))
        x = self.attention3(self.stages[2](x))
        x = self.attention4(self.stages[3](x))
        pooled = self.pool(x).to(self.fc.weight.dtype)
        return F.normalize(self.fc(pooled).float(), dim=1)
