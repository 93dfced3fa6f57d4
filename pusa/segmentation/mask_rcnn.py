"""The Mask R-CNNs: the paper's six (ResNet-50 and -101, each with FPN, C4 and DC5), and `lite` of the starter weights.

The six are detectron2's networks of the same names, number for number, and their state dicts have its names but for two
prefixes: its checkpoints load as they are (`pusa.segmentation.detectron2`), and what is trained here runs there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from pusa import weights
from pusa.errors import UserError
from pusa.segmentation import detectron2
from pusa.segmentation.heads import Anchors, BoxHead, BoxPredictor, Heads, MaskHead, Proposals, StageHeads
from pusa.segmentation.lite import LiteMaskRCNN
from pusa.segmentation.pooling import Pooling
from pusa.segmentation.resnet import Pyramid, ResNet

SIZES = (32, 64, 128, 256, 512)  # px of anchors
MEAN = (103.53, 116.28, 123.675)  # of blue, green, red in 0..255


class Pixels(GeneralizedRCNNTransform):
    """From RGB in 0..1 to blue, green, red in 0..255 less the mean, which is what MSRA's ResNets learnt from."""

    def __init__(self, divisible: int) -> None:
        super().__init__(0, 0, list(MEAN), [1.0, 1.0, 1.0], size_divisible=divisible, _skip_resize=True)

    def normalize(self, image: Tensor) -> Tensor:
        return image.flip(0) * 255 - torch.tensor(MEAN, device=image.device)[:, None, None]


class ResNetMaskRCNN(GeneralizedRCNN):
    """`kind` FPN, C4 or DC5 on a ResNet of `depth` 50 or 101, for `classes` kinds of animals."""

    sizes = (800, 1333)  # px of the shorter and at most of the longer side that photos are scaled to
    half_heads = True  # whether numbers of 16 bits are for the heads, too, where they are for the backbone
    frozen = 2  # of the backbone's stages: the stem and res2 keep their weights in training

    def __init__(self, depth: int, kind: str, classes: int = 1, pretrained: bool = False) -> None:
        if pretrained:
            raise UserError(
                f"No ImageNet weights of ResNet-{depth} come with Pusa. Start from a checkpoint of detectron2: its "
                f"zoo's (COCO), or MSRA's R-{depth}.pkl (ImageNet); see docs/segmentation.md."
            )
        backbone: Pyramid | ResNet
        if kind == "FPN":
            backbone, strides = Pyramid(depth), {f"p{n}": 2**n for n in range(2, 6)}
            proposals = Proposals(Anchors(tuple((s,) for s in SIZES), (4, 8, 16, 32, 64)), 256, (2000, 1000))
        else:
            backbone = ResNet(depth, 4) if kind == "C4" else ResNet(depth, dilated=True)
            strides = {backbone.last: 16}
            proposals = Proposals(Anchors((SIZES,), (16,)), backbone.out_channels, (12000, 6000), (2000, 1000))
        channels = backbone.out_channels
        heads: Heads
        if kind == "C4":
            heads = StageHeads(channels, classes, Pooling(14, strides))
        else:
            heads = Heads(
                Pooling(7, strides), BoxHead(channels), BoxPredictor(1024, classes),
                Pooling(14, strides), MaskHead(channels, classes),
            )  # fmt: skip
        super().__init__(backbone, proposals, heads, Pixels(32 if kind == "FPN" else 1))

    @staticmethod
    def resize(photo: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """A photo (h, w, 3) at another size, as detectron2 scales it: bilinear by Pillow, which averages."""
        return np.array(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR))

    def stages(self) -> list[nn.Module]:
        """The parts of the backbone that have learnt from ImageNet, from the pixels on."""
        return self.backbone.stages()


Network = LiteMaskRCNN | ResNetMaskRCNN
ARCHITECTURES: dict[str, Callable[..., Network]] = {"lite": LiteMaskRCNN} | {
    f"R_{depth}_{kind}": partial(ResNetMaskRCNN, depth, kind) for depth in (50, 101) for kind in ("FPN", "C4", "DC5")
}


def build(settings: dict[str, Any], pretrained: bool = False) -> Network:
    """The network of `settings`, {"architecture": "lite", ...its arguments}; `pretrained`: the backbone from ImageNet.

    Raises UserError for an unknown architecture.
    """
    arguments = dict(settings)
    name = arguments.pop("architecture", None)
    if name not in ARCHITECTURES:
        raise UserError(f"There is no segmentation architecture {name!r}. Known: {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[name](**arguments, pretrained=pretrained)


def load(name: str) -> tuple[Network, weights.Weights]:
    """A network with its weights: starter/<name>, a file of `pusa train segmentation`, or a checkpoint of detectron2.

    Raises UserError where the file is missing or damaged, or does not fit its network.
    """
    path = weights.find(name)
    stored = detectron2.read(path) if path.suffix in detectron2.SUFFIXES else weights.load(name, "segmentation")
    network = build(stored.settings)
    weights.load_into(network, stored)
    return network, stored
