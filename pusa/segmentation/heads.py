"""Proposals, pooling and heads of Mask R-CNN with detectron2's arithmetic, on torchvision's classes.

Where the two differ: anchors are not rounded, their sizes come before their ratios, and strides are constants;
proposals are ranked by logits; pooling is aligned and samples as densely as the box asks for; losses are L1, and are
divided by the number of samples that was asked for. Weights have the background last (torchvision: first).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import batched_nms, clip_boxes_to_image, roi_align

from pusa.segmentation.pooling import Pooling
from pusa.segmentation.resnet import stage

RATIOS = (0.5, 1.0, 2.0)  # height / width
IMAGE_SAMPLES, BOX_SAMPLES = 256, 512  # a photo, in training


def draw(module: nn.Module, std: float | None) -> None:
    """Draws all weights from a normal distribution (None: of He's deviation, by fan-out), and sets biases to zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if std is None:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Anchors(AnchorGenerator):
    """Anchors of `sizes` (px) on maps of the given `strides`; the first is centred on the corner of the photo."""

    def __init__(self, sizes: tuple[tuple[int, ...], ...], strides: tuple[int, ...]) -> None:
        super().__init__(sizes, (RATIOS,) * len(sizes))
        self.strides = strides

    def generate_anchors(  # type: ignore[override]
        self, scales: list[int], aspect_ratios: list[float], dtype: torch.dtype = torch.float32, device: Any = "cpu"
    ) -> Tensor:
        sizes = torch.tensor(scales, dtype=torch.float64)[:, None]
        ratios = torch.tensor(aspect_ratios, dtype=torch.float64)
        widths = (sizes * sizes / ratios).sqrt()
        w, h = widths.flatten() / 2, (widths * ratios).flatten() / 2
        return torch.stack([-w, -h, w, h], 1).to(dtype=dtype, device=device)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        first = feature_maps[0]
        self.set_cell_anchors(torch.float32, first.device)
        strides = [[torch.tensor(s, device=first.device)] * 2 for s in self.strides]
        anchors = self.grid_anchors([list(m.shape[-2:]) for m in feature_maps], strides)
        return [torch.cat(anchors)] * len(image_list.image_sizes)


class ProposalHead(nn.Module):
    """Logits (n, a, h, w) and box changes (n, 4 a, h, w) of every anchor of every map."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness_logits = nn.Conv2d(channels, anchors, 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * anchors, 1)
        draw(self, 0.01)

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        hidden = [F.relu_(self.conv(m)) for m in maps]
        # Boxes are decoded in the type of the changes; in bfloat16 a coordinate of 500 px is right to 2 px.
        return [self.objectness_logits(h).float() for h in hidden], [self.anchor_deltas(h).float() for h in hidden]


class Proposals(RegionProposalNetwork):
    """The region proposal network: `kept` boxes a photo, of the best `ranked` of each map, as (training, testing)."""

    def __init__(
        self, anchors: Anchors, channels: int, ranked: tuple[int, int], kept: tuple[int, int] = (1000, 1000)
    ) -> None:
        super().__init__(
            anchors, ProposalHead(channels, anchors.num_anchors_per_location()[0]), 0.7, 0.3, IMAGE_SAMPLES, 0.5,
            {"training": ranked[0], "testing": ranked[1]}, {"training": kept[0], "testing": kept[1]}, 0.7,
        )  # fmt: skip

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The kept boxes (k, 4) of each photo and their logits, best first. By logits: their sigmoid can tie at 1."""
        logits = objectness.detach().float().reshape(len(image_shapes), -1)
        counts = torch.tensor(num_anchors_per_level, device=logits.device)
        levels = torch.arange(len(counts), device=logits.device).repeat_interleave(counts)
        best = self._get_top_n_idx(logits, num_anchors_per_level)
        result = []
        for found, ranks, top, shape in zip(proposals, logits, best, image_shapes, strict=True):
            boxes, scores = clip_boxes_to_image(found[top], shape), ranks[top]
            filled = (boxes[:, 2:] > boxes[:, :2]).all(1) & torch.isfinite(scores)
            boxes, scores, level = boxes[filled], scores[filled], levels[top][filled]
            keep = batched_nms(boxes, scores, level, self.nms_thresh)[: self.post_nms_top_n()]
            result.append((boxes[keep], scores[keep]))
        return [boxes for boxes, _ in result], [scores for _, scores in result]

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of objectness, L1 of box changes; both a sample that was asked for, not one that was found."""
        chosen = self.fg_bg_sampler(labels)
        positive, negative = (torch.cat(list(masks)).bool() for masks in chosen)
        sampled, wanted = positive | negative, torch.cat(list(labels))
        samples = self.fg_bg_sampler.batch_size_per_image * len(labels)
        score = F.binary_cross_entropy_with_logits(
            objectness.flatten().float()[sampled], wanted[sampled], reduction="sum"
        )
        place = F.l1_loss(
            pred_bbox_deltas.float()[positive], torch.cat(list(regression_targets))[positive], reduction="sum"
        )
        return score / samples, place / samples


class BoxPredictor(nn.Module):
    """Scores and box changes of K classes from the box head's features, as torchvision wants them: background first."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(channels, classes + 1)
        self.bbox_pred = nn.Linear(channels, 4 * classes)
        draw(self.cls_score, 0.01)
        draw(self.bbox_pred, 0.001)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):  # rounded scores tie
            x = x.float()
            return self.cls_score(x).roll(1, 1), F.pad(self.bbox_pred(x), (4, 0))


class BoxHead(nn.Module):
    """Two linear layers on the pooled features of a box."""

    def __init__(self, channels: int, width: int = 1024) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels * 7 * 7, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.fc2(F.relu_(self.fc1(x.flatten(1)))))


class MaskHead(nn.Module):
    """Mask logits (k, K, 2 s, 2 s) of pooled features (k, channels, s, s): `layers` convolutions, and one upwards."""

    def __init__(self, channels: int, classes: int, layers: int = 4, width: int = 256) -> None:
        super().__init__()
        for n in range(layers):
            self.add_module(f"mask_fcn{n + 1}", nn.Conv2d(channels if n == 0 else width, width, 3, padding=1))
        self.deconv = nn.ConvTranspose2d(width if layers else channels, width, 2, stride=2)
        self.predictor = nn.Conv2d(width, classes, 1)
        draw(self, None)
        draw(self.predictor, 0.001)  # the first masks are undecided, not wrong with confidence

    def forward(self, x: Tensor) -> Tensor:
        *inner, predictor = self.children()
        for layer in inner:
            x = F.relu_(layer(x))
        return predictor(x)


class Heads(RoIHeads):
    """Boxes and masks of proposals. In training: `BOX_SAMPLES` proposals a photo, a quarter of them animals."""

    def __init__(
        self, pooling: Pooling, box_head: nn.Module, predictor: nn.Module, mask_pooling: Pooling, mask_head: nn.Module
    ) -> None:
        super().__init__(
            pooling, box_head, predictor, fg_iou_thresh=0.5, bg_iou_thresh=0.5, batch_size_per_image=BOX_SAMPLES,
            positive_fraction=0.25, bbox_reg_weights=(10.0, 10.0, 5.0, 5.0), score_thresh=0.05, nms_thresh=0.5,
            detections_per_img=100,
        )  # fmt: skip
        self.mask_roi_pool, self.mask_head = mask_pooling, mask_head

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections of each photo (boxes, labels, scores, masks (k, 1, m, m) in 0..1); in training, the losses."""
        if targets is None:
            logits, changes = self._boxes(features, proposals)
            found = self.postprocess_detections(logits, changes, proposals, image_shapes)
            rows = [dict(zip(("boxes", "scores", "labels"), row, strict=True)) for row in zip(*found, strict=True)]
            masks = self.masks(features, found[0])
            labels = torch.cat(found[2]) - 1
            chosen = masks[torch.arange(len(labels), device=labels.device), labels][:, None].sigmoid()
            for row, mask in zip(rows, chosen.split([len(r["labels"]) for r in rows]), strict=True):
                row["masks"] = mask
            return rows, {}
        proposals, matched, labels, wanted = self.select_training_samples(list(proposals), targets)
        logits, changes = self._boxes(features, proposals)
        losses = box_losses(logits, changes, torch.cat(labels), torch.cat(list(wanted)))
        animals = [found > 0 for found in labels]
        boxes = [p[a] for p, a in zip(proposals, animals, strict=True)]
        masks = self.masks(features, boxes)
        kinds = torch.cat([found[a] for found, a in zip(labels, animals, strict=True)])
        true = [target["masks"][m[a]] for target, m, a in zip(targets, matched, animals, strict=True)]
        return [], losses | {"loss_mask": mask_loss(masks, kinds, boxes, true)}

    def _boxes(self, features: dict[str, Tensor], proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, changes = self.box_predictor(self.box_features(features, proposals))
        return logits.float(), changes.float()

    def box_features(self, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        return self.box_head(self.box_roi_pool(features, boxes))

    def masks(self, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Mask logits (k, K, m, m) of boxes."""
        return self.mask_head(self.mask_roi_pool(features, boxes))


class StageHeads(Heads):
    """The heads of C4: res5 is applied to every box; classes come from its mean, masks (14 x 14) from its map."""

    def __init__(self, channels: int, classes: int, pooling: Pooling) -> None:
        outside = 2 * channels
        super().__init__(
            pooling, nn.Identity(), BoxPredictor(outside, classes), pooling, MaskHead(outside, classes, layers=0)
        )
        self.res5 = stage(3, channels, outside, stride=2)

    def box_features(self, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        return self.res5(self.box_roi_pool(features, boxes)).mean((2, 3))

    def masks(self, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        return self.mask_head(self.res5(self.box_roi_pool(features, boxes)))


def box_losses(logits: Tensor, changes: Tensor, labels: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Cross-entropy of the class (logits (n, K + 1), background first), L1 of the box changes (n, 4 (K + 1)) of
    animals; both a sample."""
    animals = torch.where(labels > 0)[0]
    moved = changes.reshape(len(labels), -1, 4)[animals, labels[animals]]
    return {
        "loss_classifier": F.cross_entropy(logits, labels),
        "loss_box_reg": F.l1_loss(moved, wanted[animals], reduction="sum") / max(len(labels), 1),
    }


def mask_loss(masks: Tensor, labels: Tensor, boxes: list[Tensor], true: list[Tensor]) -> Tensor:
    """Cross-entropy of the masks (n, K, m, m) of the true classes with the true masks (n, h, w) in their boxes."""
    if not len(labels):
        return masks.sum() * 0
    size = masks.shape[-1]
    cut = [
        roi_align(mask[:, None].float(), torch.cat([torch.arange(len(box), device=box.device)[:, None], box], 1), size,
                  1.0, sampling_ratio=0, aligned=True)[:, 0] >= 0.5
        for mask, box in zip(true, boxes, strict=True)
    ]  # fmt: skip
    mine = masks[torch.arange(len(labels), device=labels.device), labels - 1].float()
    return F.binary_cross_entropy_with_logits(mine, torch.cat(cut).to(mine.dtype))
