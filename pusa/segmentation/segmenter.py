"""The segmenter: runs a Mask R-CNN on photos, and gives what it finds in their own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection.image_list import ImageList

from pusa.config import Config, device_and_dtype, set_threads
from pusa.segmentation.mask_rcnn import Network, load
from pusa.segmentation.masks import Detections, Rle, area, encode


class SegmentationConfig(Config):
    """Settings of the detector. Sizes are in pixels."""

    weights: str = "starter/segmentation"  # or a file of `pusa train`, or a checkpoint of detectron2 (.pth, .pkl)
    engine: Literal["pusa", "detectron2"] = "pusa"
    score_threshold: float = 0.8  # the paper's; lower finds more animals and more rocks
    classes: tuple[int, ...] | None = None  # of the weights, from 0 on; None: all are animals
    shorter_side: int | None = None  # photos are scaled to this before the network; None: 512 for lite, else 800 ...
    longer_side: int | None = None  # ... unless their longer side would exceed this; None: 800, or 1333
    max_detections: int = 50  # per photo; the paper's photos hold at most 19 animals
    device: str = "auto"  # "auto", "cpu", "cuda", "cuda:1", ...
    half: bool = True  # numbers of 16 bits where the device is fast in them; False: float32


def working_size(height: int, width: int, shorter: int, longer: int) -> tuple[int, int]:
    """(height, width) of a photo whose shorter side becomes `shorter`, or less where the longer one would exceed
    `longer`; rounded half up, as detectron2 does."""
    scale = min(shorter / min(height, width), longer / max(height, width))
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


class Segmenter:
    """Finds the animals of photos. Deterministic: a photo's result does not depend on its neighbours in a batch."""

    def __init__(self, config: SegmentationConfig, threads: int | None = None, network: Network | None = None) -> None:
        """Loads `config.weights`, or takes `network` instead."""
        set_threads(threads)
        self.config = config
        self.device, dtype = device_and_dtype(config.device)
        self.dtype = dtype if config.half else torch.float32
        self.network = (load(config.weights)[0] if network is None else network).to(self.device).eval()

    def segment(self, photos: Sequence[NDArray[np.uint8]], score_threshold: float | None = None) -> list[Detections]:
        """Detections of each photo (h, w, 3), RGB uint8; boxes and masks in its pixels; best score first.

        `score_threshold` takes the place of the config's: evaluation wants the low scores too.
        """
        threshold = self.config.score_threshold if score_threshold is None else score_threshold
        # One photo at a time: padding to a common size would make results depend on the batch, and wastes a CPU.
        return [self._segment(photo, threshold) for photo in photos]

    @torch.inference_mode()
    def _segment(self, photo: NDArray[np.uint8], threshold: float) -> Detections:
        height, width = photo.shape[:2]
        h, w = working_size(height, width, *self.sizes())
        net = self.network
        net.roi_heads.score_thresh = threshold
        net.roi_heads.detections_per_img = self.config.max_detections
        pixels = torch.from_numpy(net.resize(photo, h, w)).to(self.device).permute(2, 0, 1).float() / 255
        batch = net.transform.batch_images([net.transform.normalize(pixels)], net.transform.size_divisible)
        images = batch.contiguous(memory_format=torch.channels_last)
        half = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=half):
            features = net.backbone(images)
        if not net.half_heads:
            half, features = False, {name: f.float() for name, f in features.items()}
        with torch.autocast(self.device.type, self.dtype, enabled=half):
            proposals, _ = net.rpn(ImageList(images, [(h, w)]), features)
            found = net.roi_heads(features, proposals, [(h, w)])[0][0]
        boxes = found["boxes"].float().cpu().numpy() * np.array([width / w, height / h] * 2, np.float32)
        scores = found["scores"].float().cpu().numpy()
        probabilities = found["masks"][:, 0].float().cpu().numpy()
        order = np.argsort(-scores, kind="stable")
        if self.config.classes is not None:
            order = order[np.isin(found["labels"].cpu().numpy()[order] - 1, self.config.classes)]
        masks = [paste(probabilities[i], boxes[i], height, width) for i in order]
        filled = [n for n, mask in enumerate(masks) if area(mask)]  # an animal without a pixel is none
        order = order[filled]
        return Detections(boxes[order], scores[order], [masks[n] for n in filled])

    def sizes(self) -> tuple[int, int]:
        """Pixels of the shorter and of the longer side that photos are scaled to: the config's, or the network's."""
        shorter, longer = self.network.sizes
        return self.config.shorter_side or shorter, self.config.longer_side or longer


def paste(probability: NDArray[np.float32], box: NDArray[np.float32], height: int, width: int) -> Rle:
    """RLE of a mask head's output (m, m) in 0..1, stretched over `box` of a photo of height x width, cut at one half.

    Sampled at pixel centres, bilinear, nothing outside the box: detectron2's `paste_masks_in_image`, on the box alone.
    """
    x0, y0 = np.floor(box[:2]).astype(int).clip(0)
    x1, y1 = np.ceil(box[2:]).astype(int).clip(0, (width, height))
    if x1 <= x0 or y1 <= y0:
        return encode(np.zeros((0, 0), bool), (height, width))
    across = _samples(np.arange(x0, x1), box[0], box[2], probability.shape[1])
    down = _samples(np.arange(y0, y1), box[1], box[3], probability.shape[0])
    return encode(down @ probability @ across.T >= 0.5, (height, width), (int(x0), int(y0)))


def _samples(pixels: NDArray[np.int64], begin: float, end: float, cells: int) -> NDArray[np.float32]:
    """Weights (n, cells) of the mask's cells at n pixels, along one side of a box from `begin` to `end`."""
    # Centres of pixels and of cells lie at .5: forgetting that shifts masks by half a cell.
    at = (pixels + 0.5 - begin) / (end - begin) * cells - 0.5
    return (1 - abs(at[:, None] - np.arange(cells))).clip(0).astype(np.float32)
