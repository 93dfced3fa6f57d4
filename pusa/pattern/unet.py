"""U-Net that finds the rings (Ronneberger 2015, in the form of the public seal pattern extractor, NORPPA).

Grey crop in, probability of "ring" out. The public network has 64 base channels and was saved by Keras; the starter has
few. Both are this class, so the Keras checkpoint is read directly.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pusa.errors import UserError

LEVELS = 4  # of max pooling: height and width of the input are multiples of 2**LEVELS


def _conv(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, padding=(kernel - 1) // 2)


class _Pair(nn.Module):
    """Two 3x3 convolutions, each with ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = _conv(channels_in, channels_out)
        self.second = _conv(channels_out, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))))


class _Up(nn.Module):
    """Nearest upsampling, 2x2 convolution, concatenation [skip, up], pair."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.up = _conv(channels_in, channels_out, kernel=2)
        self.pair = _Pair(2 * channels_out, channels_out)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = F.relu(self.up(F.pad(x, (0, 1, 0, 1))))  # Keras pads an even kernel at the bottom and right
        return self.pair(torch.cat((skip, x), dim=1))


class UNet(nn.Module):
    """(B, 1, H, W) grey in [0, 1] -> (B, 1, H, W) logits of "ring"; H and W are multiples of 16.

    `base` channels at the full resolution, doubled at each of four levels; dropout 0.5 behind level 4 and the bottom.
    """

    def __init__(self, base: int = 64) -> None:
        super().__init__()
        widths = [base * 2**i for i in range(LEVELS + 1)]
        # The order of definition is the order of the layers in the Keras file: `read_keras` relies on it.
        self.down = nn.ModuleList(_Pair(a, b) for a, b in zip([1, *widths], widths, strict=False))
        self.up = nn.ModuleList(_Up(2 * w, w) for w in reversed(widths[:-1]))
        self.head = _conv(base, 2)
        self.out = _conv(2, 1, kernel=1)
        self.dropout = nn.Dropout(0.5)
        for conv in self.convolutions():
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.get_parameter("bias"))
        # Only two channels reach the output, and both die if training begins by pushing all pixels down: one of them
        # speaks for rings, one against, and the output starts at the share of ring pixels, about a tenth.
        nn.init.constant_(self.head.get_parameter("bias"), 0.5)
        self.out.load_state_dict({"weight": torch.tensor([1.0, -1.0]).view(1, 2, 1, 1), "bias": torch.tensor([-2.2])})

    def convolutions(self) -> list[nn.Conv2d]:
        """All convolutions from input to output."""
        return [m for m in self.modules() if isinstance(m, nn.Conv2d)]

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, pair in enumerate(self.down):
            x = pair(x if level == 0 else F.max_pool2d(x, 2))
            if level >= LEVELS - 1:
                x = self.dropout(x)
            skips.append(x)
        skips.pop()  # the bottom is x itself
        for up in self.up:
            x = up(x, skips.pop())
        return self.out(F.relu(self.head(x)))


def read_keras(path: Path) -> UNet:
    """The network of a Keras 2 checkpoint (.hdf5, .h5: whole model or weights only), in evaluation mode.

    Raises UserError where the file is not HDF5, or its layers are not those of this U-Net in order and shape.
    """
    import h5py

    try:
        with h5py.File(path) as file:
            group = file.get("model_weights", file)
            layers = [_text(name) for name in group.attrs["layer_names"]]
            found = {
                layer: [
                    torch.from_numpy(group[layer][_text(n)][()]).float() for n in group[layer].attrs["weight_names"]
                ]
                for layer in layers
                if len(group[layer].attrs["weight_names"])
            }
    except (OSError, KeyError, TypeError) as e:
        raise UserError(
            f"{path} is not a Keras checkpoint of a U-Net: {e}. Expected an .hdf5 file saved by Keras 2."
        ) from e
    first = next(iter(found.values()))[0] if found else torch.empty(0)
    network = UNet(first.shape[-1] if first.ndim == 4 else 1)
    convs = network.convolutions()
    if len(found) != len(convs):
        raise UserError(f"{path}: expected {len(convs)} layers with weights, as in the seal U-Net, found {len(found)}.")
    for conv, (layer, tensors) in zip(convs, found.items(), strict=True):
        expected = [(*conv.kernel_size, conv.in_channels, conv.out_channels), (conv.out_channels,)]
        shapes = [tuple(t.shape) for t in tensors]
        if shapes != expected:
            raise UserError(f"{path}: layer {layer} has tensors of shape {shapes}, the seal U-Net has {expected}.")
        kernel, bias = tensors
        conv.load_state_dict({"weight": kernel.permute(3, 2, 0, 1), "bias": bias})
    return network.eval()


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
