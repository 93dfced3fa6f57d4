"""Which program runs the network: Pusa's own segmenter, or detectron2 itself where it is installed.

Both give the same detections from the same weights (docs/results.md); detectron2 is for those who want to see that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pusa.config import set_threads
from pusa.errors import UserError
from pusa.segmentation import masks
from pusa.segmentation.detectron2 import theirs
from pusa.segmentation.mask_rcnn import ResNetMaskRCNN, load
from pusa.segmentation.masks import Detections
from pusa.segmentation.segmenter import SegmentationConfig, Segmenter, working_size


def open_segmenter(config: SegmentationConfig, threads: int | None = None) -> Segmenter | Detectron2Segmenter:
    """The segmenter of `config.engine`. Raises UserError where detectron2 is asked for, but is not there."""
    return Detectron2Segmenter(config, threads) if config.engine == "detectron2" else Segmenter(config, threads)


class Detectron2Segmenter:
    """As `Segmenter`, by detectron2 in float32: for weights of the six architectures that it has, too."""

    def __init__(self, config: SegmentationConfig, threads: int | None = None) -> None:
        try:
            from detectron2.modeling import build_model
        except ImportError as e:
            raise UserError(
                f"`engine: detectron2` needs detectron2, which is not installed here ({e}). "
                "docs/segmentation.md says how to install it; `engine: pusa` needs nothing."
            ) from e
        set_threads(threads)
        self.config = config
        network, stored = load(config.weights)
        if not isinstance(network, ResNetMaskRCNN):
            raise UserError(f"{config.weights} is not a network that detectron2 has: use `engine: pusa`.")
        self.sizes = config.shorter_side or network.sizes[0], config.longer_side or network.sizes[1]
        self.model = build_model(settings(stored.settings["architecture"], stored.settings["classes"], config.device))
        self.model.load_state_dict(theirs(stored.tensors), strict=False)  # less its constants, such as pixel_mean
        self.model.eval()

    def segment(self, photos: Sequence[NDArray[np.uint8]], score_threshold: float | None = None) -> list[Detections]:
        """Detections of each photo (h, w, 3), RGB uint8; boxes and masks in its pixels; best score first."""
        threshold = self.config.score_threshold if score_threshold is None else score_threshold
        return [self._segment(photo, threshold) for photo in photos]

    @torch.inference_mode()
    def _segment(self, photo: NDArray[np.uint8], threshold: float) -> Detections:
        height, width = photo.shape[:2]
        small = ResNetMaskRCNN.resize(photo, *working_size(height, width, *self.sizes))
        predictor = self.model.roi_heads.box_predictor
        predictor.test_score_thresh, predictor.test_topk_per_image = threshold, self.config.max_detections
        image = torch.from_numpy(np.ascontiguousarray(small[..., ::-1].transpose(2, 0, 1)))  # blue, green, red
        found = self.model([{"image": image, "height": height, "width": width}])[0]["instances"].to("cpu")
        if self.config.classes is not None:
            found = found[torch.isin(found.pred_classes, torch.tensor(self.config.classes))]
        layers = [masks.encode(layer) for layer in found.pred_masks.numpy()]
        filled = [n for n, layer in enumerate(layers) if masks.area(layer)]
        boxes, scores = found.pred_boxes.tensor.numpy()[filled], found.scores.numpy()[filled]
        return Detections(boxes, scores, [layers[n] for n in filled])


def settings(architecture: str, classes: int, device: str = "auto") -> Any:
    """detectron2's own settings of an architecture, from the file of its model zoo."""
    import detectron2
    from detectron2.config import get_cfg

    # Read as a file: detectron2.model_zoo itself needs a setuptools older than 81.
    zoo = Path(detectron2.__file__).parent / "model_zoo" / "configs" / "COCO-InstanceSegmentation"
    cfg = get_cfg()
    cfg.merge_from_file(str(zoo / f"mask_rcnn_{architecture}_3x.yaml"))
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = classes
    cfg.MODEL.DEVICE = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return cfg
