"""Mask R-CNN: the networks, and the segmenter that runs one on photos.

`lite` is the network of the starter weights: EfficientNet-Lite0, a feature pyramid of 96 channels, small heads; about
5 M parameters. All networks are torchvision's MaskRCNN with one class, rebuilt from the settings in their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from pusa import weights
from pusa.config import Config, device_and_dtype, set_threads
from pusa.efficientnet_lite import MEAN, STD, EfficientNetLite0
from pusa.errors import UserError
from pusa.segmentation.masks import Detections, Rle, area, encode


class SegmentationConfig(Config):
    """Settings of the detector. Sizes are in pixels."""

    weights: str = "starter/segmentation"
    score_threshold: float = 0.8  # the paper's; lower finds more animals and more rocks
    shorter_side: int = 512  # photos are scaled to this before the network ...
    longer_side: int = 800  # ... unless their longer side would exceed this
    max_detections: int = 50  # per photo; the paper's photos hold at most 19 animals
    device: str = "auto"  # "auto", "cpu", "cuda", "cuda:1", ...


class LitePyramid(nn.Module):
    """EfficientNet-Lite0 with a feature pyramid: maps "0", "1", ... at strides `finest`, double that, ... 32."""

    def __init__(self, channels: int, finest: int, pretrained: bool):
        super().__init__()
        self.body = EfficientNetLite0(pretrained)
        self.skip = (4, 8, 16, 32).index(finest)
        self.fpn = FeaturePyramidNetwork(list(self.body.channels[self.skip :]), channels, LastLevelMaxPool())
        self.out_channels = channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.fpn({str(i): f for i, f in enumerate(self.body.features(x)[self.skip :])})


class LiteMaskRCNN(MaskRCNN):
    """The `lite` network: `channels` of pyramid and mask head, width of the box head, layers of the mask head.

    The pyramid starts at stride `finest`. 8 serves animals of 20 pixels and more in the scaled photo; 4 finds smaller
    ones, but that one map costs about as much time as all the rest of the network.
    """

    def __init__(
        self, channels: int = 96, box_head: int = 256, mask_layers: int = 3, finest: int = 8, pretrained: bool = False
    ):
        pyramid = LitePyramid(channels, finest, pretrained)
        levels = [str(i) for i in range(len(pyramid.body.channels) - pyramid.skip)]
        strides = [finest * 2**i for i in range(len(levels) + 1)]  # with the pooled map
        super().__init__(
            pyramid,
            num_classes=None,  # given by the predictors below: background and animal
            image_mean=[MEAN] * 3,
            image_std=[STD] * 3,
            rpn_anchor_generator=AnchorGenerator(
                tuple((4 * s, 6 * s) for s in strides),
                ((0.4, 0.8, 1.6),) * len(strides),  # height / width: seals lie
            ),
            rpn_pre_nms_top_n_train=500,  # per level; torchvision's 2000 suit COCO's crowded pictures, not a shore
            rpn_post_nms_top_n_train=500,
            rpn_pre_nms_top_n_test=300,
            rpn_post_nms_top_n_test=200,
            rpn_batch_size_per_image=128,
            box_roi_pool=MultiScaleRoIAlign(levels, 7, 2),
            box_head=TwoMLPHead(channels * 7 * 7, box_head),
            box_predictor=BoxPredictor(box_head),
            box_batch_size_per_image=64,
            box_positive_fraction=0.33,
            mask_roi_pool=MultiScaleRoIAlign(levels, 14, 2),
            mask_head=MaskRCNNHeads(channels, [channels] * mask_layers, 1),
            mask_predictor=MaskRCNNPredictor(channels, channels, 2),
            _skip_resize=True,  # training photos come in their final size
        )
        # As detectron2: the first masks are undecided, not wrong with confidence.
        nn.init.normal_(self.roi_heads.mask_predictor.mask_fcn_logits.weight, std=0.001)


class BoxPredictor(nn.Module):
    """Scores and box changes of two classes (background, animal) from the box head's features."""

    def __init__(self, channels: int):
        super().__init__()
        self.cls_score = nn.Linear(channels, 2)
        self.bbox_pred = nn.Linear(channels, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x), self.bbox_pred(x)


ARCHITECTURES: dict[str, Callable[..., MaskRCNN]] = {"lite": LiteMaskRCNN}


def build(settings: dict[str, Any], pretrained: bool = False) -> MaskRCNN:
    """The network of `settings`, {"architecture": "lite", ...its arguments}; `pretrained`: the backbone from ImageNet.

    Raises UserError for an unknown architecture.
    """
    arguments = dict(settings)
    name = arguments.pop("architecture", None)
    if name not in ARCHITECTURES:
        raise UserError(f"There is no segmentation architecture {name!r}. Known: {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[name](**arguments, pretrained=pretrained)


def working_scale(height: int, width: int, shorter: int, longer: int) -> float:
    """Factor that brings the shorter side to `shorter`, or less where the longer side would exceed `longer`."""
    return min(shorter / min(height, width), longer / max(height, width))


class Segmenter:
    """Finds the animals of photos. Deterministic: a photo's result does not depend on its neighbours in a batch."""

    def __init__(self, config: SegmentationConfig, threads: int | None = None, network: MaskRCNN | None = None):
        """Loads `config.weights`, or takes `network` (in evaluation mode, on its device) instead."""
        set_threads(threads)
        self.config = config
        self.device, self.dtype = device_and_dtype(config.device)
        if network is None:
            stored = weights.load(config.weights, "segmentation")
            network = build(stored.settings)
            weights.load_into(network, stored)
        self.network = network.to(self.device).eval()

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
        scale = working_scale(height, width, self.config.shorter_side, self.config.longer_side)
        w, h = max(round(width * scale), 1), max(round(height * scale), 1)
        small = cv2.resize(photo, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        net = self.network
        net.roi_heads.score_thresh = threshold
        net.roi_heads.detections_per_img = self.config.max_detections
        image = net.transform.normalize(torch.from_numpy(small).to(self.device).permute(2, 0, 1).float() / 255)
        images = net.transform.batch_images([image], 32).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            features = net.backbone(images)
            listed = ImageList(images, [(h, w)])
            proposals, _ = net.rpn(listed, features)
            found = net.roi_heads(features, proposals, [(h, w)])[0][0]
        boxes = found["boxes"].float().cpu().numpy() * np.array([width / w, height / h] * 2, np.float32)
        scores = found["scores"].float().cpu().numpy()
        probabilities = found["masks"][:, 0].float().cpu().numpy()
        order = np.argsort(-scores, kind="stable")
        masks = [paste(probabilities[i], boxes[i], height, width) for i in order]
        filled = [n for n, mask in enumerate(masks) if area(mask)]  # an animal without a pixel is none
        order = order[filled]
        return Detections(boxes[order], scores[order], [masks[n] for n in filled])


def paste(probability: NDArray[np.float32], box: NDArray[np.float32], height: int, width: int) -> Rle:
    """RLE of a mask head's output (m, m) in 0..1, stretched over `box` of a photo of height x width, cut at one half.

    Sampled at pixel centres, bilinear, nothing outside the box: detectron2's `paste_masks_in_image`, on the box alone.
    """
    m = probability.shape[0]
    x0, y0 = np.floor(box[:2]).astype(int).clip(0)
    x1, y1 = np.ceil(box[2:]).astype(int).clip(0, (width, height))
    if x1 <= x0 or y1 <= y0:
        return encode(np.zeros((0, 0), bool), (height, width))
    # From pixels of the region to cells of the mask. Centres lie at .5: forgetting that shifts masks by half a cell.
    x_scale, y_scale = m / (box[2] - box[0]), m / (box[3] - box[1])
    x_shift, y_shift = (x0 + 0.5 - box[0]) * x_scale - 0.5, (y0 + 0.5 - box[1]) * y_scale - 0.5
    to_cell = np.array([[x_scale, 0, x_shift], [0, y_scale, y_shift]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    region = cv2.warpAffine(probability, to_cell, (int(x1 - x0), int(y1 - y0)), flags=flags)
    return encode(region >= 0.5, (height, width), (int(x0), int(y0)))
