"""`lite`, the Mask R-CNN of the starter weights: EfficientNet-Lite0, a feature pyramid of 96 channels, small heads.

About 5 M parameters. It is torchvision's MaskRCNN with one class, on pixels of RGB.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from pusa.efficientnet_lite import MEAN, STD, EfficientNetLite0


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

    sizes = (512, 800)  # px of the shorter and at most of the longer side that photos are scaled to
    half_heads = False  # in bfloat16 they cost .2 points of mask mAP, and are no faster: they are small
    frozen = 6  # of the backbone's stages: the stem and five blocks, up to stride 8, keep their weights in training

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
            rpn_head=ProposalHead(channels, 6),
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

    @staticmethod
    def resize(photo: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """A photo (h, w, 3) at another size."""
        shrinks = height < photo.shape[0]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return cv2.resize(photo, (width, height), interpolation=method).astype(np.uint8, copy=False)

    def stages(self) -> list[nn.Module]:
        """The parts of the backbone that have learnt from ImageNet, from the pixels on."""
        return [self.backbone.body.conv_stem, *self.backbone.body.blocks]


class ProposalHead(RPNHead):
    """torchvision's, with outputs in float32: boxes are decoded in the type of the changes, and in bfloat16 a
    coordinate of 500 px is right to 2 px."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, changes = super().forward(x)
        return [m.float() for m in logits], [m.float() for m in changes]


class BoxPredictor(nn.Module):
    """Scores and box changes, float32, of two classes (background, animal) from the box head's features."""

    def __init__(self, channels: int):
        super().__init__()
        self.cls_score = nn.Linear(channels, 2)
        self.bbox_pred = nn.Linear(channels, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x).float(), self.bbox_pred(x).float()
