"""Pusa's six Mask R-CNNs beside detectron2's own: same weights, same photos; detections, losses and speed.

    python benchmarks/detectron2_beside.py PHOTOS [ARCHITECTURE ...]

Needs detectron2 (docs/segmentation.md). Weights are random, with heads that are scaled so that something is detected:
equal numbers are what is measured here, not accuracy. Losses: one photo with three drawn animals, every anchor and
proposal counted, since the two programs draw their samples differently. Speed: float32 in both, and Pusa in bfloat16;
the best of three rounds, in turn, in wall and in CPU seconds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from pusa import photos, weights
from pusa.segmentation import engine, masks
from pusa.segmentation.detectron2 import theirs
from pusa.segmentation.mask_rcnn import ARCHITECTURES, ResNetMaskRCNN, build
from pusa.segmentation.segmenter import SegmentationConfig, Segmenter
from pusa.segmentation.train import spread

EVERY = 10**6  # samples: more than there are
SCORE = 0.3


def main(folder: Path, architectures: Sequence[str]) -> None:
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() == ".jpg")
    pictures = [photos.decode(file.read_bytes()) for file in spread(files, 3)]
    for name in architectures:
        torch.manual_seed(0)
        network = scaled(name, pictures[0])
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / "w.safetensors"
            weights.save(file, "segmentation", {"architecture": name, "classes": 1}, network.state_dict(), half=False)
            config = SegmentationConfig(weights=str(file), device="cpu", half=False)
            ours, other = Segmenter(config), engine.Detectron2Segmenter(config)
            half = Segmenter(config.model_copy(update={"half": True}))
        print(name)
        agreement(ours.segment(pictures, SCORE), other.segment(pictures, SCORE))
        losses(name, ours, pictures[0])
        runs: dict[str, Callable[[], object]] = {
            "detectron2": lambda other=other: other.segment(pictures[:1], SCORE),
            "Pusa, float32": lambda ours=ours: ours.segment(pictures[:1], SCORE),
            "Pusa, bfloat16": lambda half=half: half.segment(pictures[:1], SCORE),
        }
        speed(runs)


def scaled(name: str, photo: NDArray[np.uint8]) -> ResNetMaskRCNN:
    """A random network whose outputs have the spread of a trained one's, so that it detects something on a photo."""
    network = build({"architecture": name, "classes": 1}).eval()
    assert isinstance(network, ResNetMaskRCNN)
    for layer, module in network.named_modules():
        if layer.endswith("conv3"):
            module.norm.weight *= 0.25  # residual sums stay bounded
    rpn, heads = network.rpn.head, network.roi_heads
    spreads = {rpn.objectness_logits: 2.0, rpn.anchor_deltas: 0.3, heads.box_predictor.cls_score: 2.0,
               heads.box_predictor.bbox_pred: 0.5, heads.mask_head.predictor: 3.0}  # fmt: skip

    def rescale(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        """Once, in the first pass: the layer's weights, and what it gives now."""
        factor = spreads.pop(module) / float(output.std()) if module in spreads else 1.0
        module.weight.mul_(factor)
        return output * factor

    hooks = [module.register_forward_hook(rescale) for module in spreads]
    Segmenter(SegmentationConfig(device="cpu", half=False), network=network).segment([photo], SCORE)
    for hook in hooks:
        hook.remove()
    return network


def agreement(ours: list[masks.Detections], others: list[masks.Detections]) -> None:
    """Detections of the same photos, matched by rank."""
    print(f"  detections: {sum(map(len, ours))} and {sum(map(len, others))}")
    pairs = [(a, b) for a, b in zip(ours, others, strict=True) if len(a) == len(b)]
    boxes = max((abs(a.boxes - b.boxes).max(initial=0) for a, b in pairs), default=0)
    scores = max((abs(a.scores - b.scores).max(initial=0) for a, b in pairs), default=0)
    differing = sum((masks.decode(p) ^ masks.decode(q)).sum() for a, b in pairs
                    for p, q in zip(a.masks, b.masks, strict=True))  # fmt: skip
    pixels = sum(masks.area(p) for a, _ in pairs for p in a.masks)
    print(f"  photos with as many: {len(pairs)} of {len(ours)}; largest difference of boxes {boxes:.1e} px, of scores")
    print(f"  {scores:.1e}; mask pixels that differ: {differing} of {pixels}")


def losses(name: str, segmenter: Segmenter, photo: NDArray[np.uint8]) -> None:
    """The five losses of one photo with three ellipses, in both programs."""
    height, width = 480, 640
    small = segmenter.network.resize(photo, height, width)
    y, x = np.mgrid[:height, :width]
    layers = np.array([((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1 for cx, cy, a, b in
                       ((150, 120, 90, 40), (400, 260, 150, 90), (560, 420, 40, 30))])  # fmt: skip
    boxes = torch.tensor(np.array([masks.box(masks.encode(layer)) for layer in layers]))
    network = segmenter.network.train()
    network.rpn.fg_bg_sampler = BalancedPositiveNegativeSampler(EVERY, 0.5)
    network.roi_heads.fg_bg_sampler = BalancedPositiveNegativeSampler(EVERY, 0.5)
    target = {"boxes": boxes, "labels": torch.ones(3, dtype=torch.int64), "masks": torch.from_numpy(layers)}
    with torch.no_grad():
        mine = network([torch.from_numpy(small).permute(2, 0, 1).float() / 255], [target])
    cfg = engine.settings(name, 1, "cpu")
    cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = EVERY
    cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION = 0.5
    model = build_model(cfg).train()
    model.load_state_dict(theirs(network.state_dict()), strict=False)
    true = Instances((height, width))
    true.gt_boxes, true.gt_classes, true.gt_masks = Boxes(boxes), torch.zeros(3, dtype=torch.int64), BitMasks(layers)
    image = torch.from_numpy(np.ascontiguousarray(small[..., ::-1].transpose(2, 0, 1)))
    with EventStorage(), torch.no_grad():
        other = model([{"image": image, "instances": true}])
    network.eval()
    names = {"loss_objectness": "loss_rpn_cls", "loss_rpn_box_reg": "loss_rpn_loc", "loss_classifier": "loss_cls",
             "loss_box_reg": "loss_box_reg", "loss_mask": "loss_mask"}  # fmt: skip
    for our_name, their_name in names.items():
        a, b = float(mine[our_name]), float(other[their_name])
        print(f"  {our_name}: {a:.6g} and {b:.6g} (relative difference {abs(a - b) / abs(b):.1e})", flush=True)


def speed(runs: dict[str, Callable[[], object]]) -> None:
    """Seconds a photo, the best of three rounds, and how many times as fast as the first; wall time and CPU time."""
    best = {name: np.full(2, np.inf) for name in runs}
    for _ in range(3):
        for name, run in runs.items():
            began = np.array([time.perf_counter(), time.process_time()])
            run()
            best[name] = np.minimum(best[name], (time.perf_counter(), time.process_time()) - began)
    first = next(iter(best.values()))
    for name, seconds in best.items():
        (wall, cpu), (by_wall, by_cpu) = seconds, first / seconds
        print(f"  {name}: {wall:.2f} s a photo, {by_wall:.2f} x; {cpu:.2f} s of CPU, {by_cpu:.2f} x", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or [name for name in ARCHITECTURES if name != "lite"])
