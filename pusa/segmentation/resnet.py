"""ResNet-50 and -101 as detectron2 has them (MSRA's), and the three backbones on them: FPN, C4, DC5.

Module names are detectron2's, so that its checkpoints fit as they are. The differences from torchvision's ResNet: the
stride of a stage lies in the first 1 x 1 convolution, not in the 3 x 3; batch normalisation is frozen; DC5 dilates all
three blocks of res5. Backbones take pixels (n, 3, h, w) and return their maps by name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops.misc import FrozenBatchNorm2d

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class ConvNorm(nn.Conv2d):
    """A convolution without bias, and the frozen batch normalisation behind it."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        padding = kernel // 2 * dilation
        super().__init__(inside, outside, kernel, stride, padding, dilation, bias=False)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.norm = FrozenBatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        # Both are linear, so they are one convolution: a pass over the map less, and no second map kept for training.
        norm = self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return self._conv_forward(x, self.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale)


class Bottleneck(nn.Module):
    """1 x 1 to `width` channels, 3 x 3, 1 x 1 to `outside`, and a shortcut past them."""

    def __init__(self, inside: int, width: int, outside: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.shortcut = ConvNorm(inside, outside, 1, stride) if inside != outside else nn.Identity()
        self.conv1 = ConvNorm(inside, width, 1, stride)
        self.conv2 = ConvNorm(width, width, 3, dilation=dilation)
        self.conv3 = ConvNorm(width, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv3(F.relu_(self.conv2(F.relu_(self.conv1(x)))))
        return F.relu_(inner.add_(self.shortcut(x)))


def stage(blocks: int, inside: int, outside: int, stride: int, dilation: int = 1) -> nn.Sequential:
    """res2 to res5: `blocks` bottlenecks, the first of which has the stride."""
    width = outside // 4
    first = Bottleneck(inside, width, outside, stride, dilation)
    return nn.Sequential(first, *(Bottleneck(outside, width, outside, 1, dilation) for _ in range(blocks - 1)))


class ResNet(nn.Module):
    """The stem (stride 4) and the stages up to `last`, 4 or 5: maps res2 (stride 4, 256 channels) to res5 (32, 2048).

    `dilated`: res5 keeps res4's stride of 16, and its 3 x 3 convolutions reach twice as far instead.
    """

    def __init__(self, depth: int, last: int = 5, dilated: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(OrderedDict(conv1=ConvNorm(3, 64, 7, 2)))
        inside = 64
        for number, blocks in zip(range(2, last + 1), BLOCKS[depth], strict=False):
            outside = 64 * 2**number
            dilate = dilated and number == 5
            stride = 1 if number == 2 or dilate else 2
            self.add_module(f"res{number}", stage(blocks, inside, outside, stride, 2 if dilate else 1))
            inside = outside
        self.out_channels = inside
        self.last = f"res{last}"

    def stages(self) -> list[nn.Module]:
        """Stem and stages, from the pixels on."""
        return list(self.children())

    def maps(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The map of every stage."""
        x = F.max_pool2d(F.relu_(self.stem(x)), 3, 2, 1)
        for name, module in list(self.named_children())[1:]:
            x = module(x)
            yield name, x

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: found for name, found in self.maps(x) if name == self.last}


class Pyramid(nn.Module):
    """Feature pyramid (Lin 2017) on a ResNet: p2 (stride 4) to p5 (32), and p6 (64), which is p5 taken at every second
    position; 256 channels each."""

    out_channels = 256

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.bottom_up = ResNet(depth)
        for number in range(2, 6):
            self.add_module(f"fpn_lateral{number}", nn.Conv2d(64 * 2**number, self.out_channels, 1))
            self.add_module(f"fpn_output{number}", nn.Conv2d(self.out_channels, self.out_channels, 3, padding=1))

    def stages(self) -> list[nn.Module]:
        """Stem and stages of the ResNet."""
        return self.bottom_up.stages()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        result: dict[str, Tensor] = {}
        above: Tensor | None = None
        for name, found in reversed(list(self.bottom_up.maps(x))):
            number = name[-1]
            lateral = self.get_submodule(f"fpn_lateral{number}")(found)
            above = lateral if above is None else lateral + F.interpolate(above, scale_factor=2.0, mode="nearest")
            result[f"p{number}"] = self.get_submodule(f"fpn_output{number}")(above)
        maps = dict(reversed(result.items()))
        return maps | {"p6": F.max_pool2d(maps["p5"], 1, 2)}
