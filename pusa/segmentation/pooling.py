"""Features of boxes: what the heads of the six Mask R-CNNs look at (RoIAlign, He 2017, with detectron2's sampling)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align


class Pooling(nn.Module):
    """Features of boxes, (k, channels, size, size), from the map that suits each; `strides`: the maps used, by name."""

    def __init__(self, size: int, strides: Mapping[str, int]) -> None:
        super().__init__()
        self.size, self.strides = size, dict(strides)

    def forward(self, features: Mapping[str, Tensor], boxes: list[Tensor]) -> Tensor:
        every = torch.cat(boxes)
        number = torch.repeat_interleave(
            torch.arange(len(boxes), device=every.device), torch.tensor([len(b) for b in boxes], device=every.device)
        )
        rois = torch.cat([number[:, None].to(every.dtype), every], 1)
        maps = [(features[name], 1 / stride) for name, stride in self.strides.items()]
        if len(maps) == 1:
            return self.pool(*maps[0], rois)
        # A box of 224 x 224 px belongs to p4, one of half the side to p3, ... (Lin 2017, equation 1).
        sides = ((every[:, 2] - every[:, 0]) * (every[:, 3] - every[:, 1])).sqrt()
        level = (4 + torch.log2(sides / 224 + 1e-8)).floor().clamp(2, 1 + len(maps)).long() - 2
        first = maps[0][0]
        result = first.new_zeros(len(rois), first.shape[1], self.size, self.size)
        for n, (found, scale) in enumerate(maps):
            mine = level == n
            result[mine] = self.pool(found, scale, rois[mine]).to(result.dtype)
        return result

    def pool(self, features: Tensor, scale: float, rois: Tensor) -> Tensor:
        if features.dtype == torch.bfloat16 and features.is_cpu and len(self.strides) == 1 and not self.training:
            return pooled(features, scale, rois, self.size)  # maps of 1,024 channels and more
        return roi_align(features, rois, self.size, scale, sampling_ratio=0, aligned=True)


def pooled(features: Tensor, scale: float, rois: Tensor, size: int) -> Tensor:
    """What `roi_align(features, rois, size, scale, sampling_ratio=0, aligned=True)` gives, in the type of the features.

    Bilinear samples on a regular grid weigh rows and columns each for itself: a box is two products of matrices, which
    a processor with bfloat16 does at many times the speed of roi_align, which knows float32 only.
    """
    maps = features.permute(0, 2, 3, 1).contiguous()
    if not len(rois):
        return maps.new_empty(0, maps.shape[3], size, size)
    corners = rois[:, 1:].float() * scale - 0.5
    down, across = (
        samples(corners[:, side], corners[:, side + 2], size, length).to(maps.dtype)
        for side, length in ((1, maps.shape[1]), (0, maps.shape[2]))
    )
    result = maps.new_empty(len(rois), maps.shape[3], size, size)
    rows, columns = (_reach(weights) for weights in (down, across))
    for k, photo in enumerate(rois[:, 0].int().tolist()):
        (top, bottom), (left, right) = rows[k], columns[k]
        part = maps[photo, top:bottom, left:right]
        lines = down[k, :, top:bottom] @ part.reshape(bottom - top, -1)
        cells = across[k, :, left:right] @ lines.view(size, right - left, -1)
        result[k] = cells.permute(2, 0, 1)
    return result


def samples(begin: Tensor, end: Tensor, size: int, length: int) -> Tensor:
    """Weights (n, size, length) of the cells of a map of `length`, along one side, in `size` bins of n boxes that reach
    from `begin` to `end` (n,): the mean of as many bilinear samples a bin as it covers cells."""
    bin_ = (end - begin) / size
    count = bin_.ceil().clamp(min=1)
    step = torch.arange(int(count.max()), device=begin.device)
    place = torch.arange(size, device=begin.device)[:, None] + (step + 0.5) / count[:, None, None]
    at = begin[:, None, None] + place * bin_[:, None, None]  # (n, size, samples)
    counts = (step < count[:, None, None]) & (at >= -1) & (at <= length)
    cells = torch.arange(length, device=begin.device)
    hat = (1 - (at.clamp(0, length - 1)[..., None] - cells).abs()).clamp(min=0)
    return (hat * counts[..., None]).sum(2) / count[:, None, None]


def _reach(weights: Tensor) -> list[list[int]]:
    """First cell and the one after the last, of each box, that any bin weighs (n, size, length)."""
    used = weights.any(1)
    length = used.shape[1]
    first = used.int().argmax(1)
    last = length - used.flip(1).int().argmax(1)
    return torch.stack([first, last], 1).tolist()
