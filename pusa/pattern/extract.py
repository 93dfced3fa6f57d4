"""Pattern extraction (method: section 3): the seal's rings as a binary mask, and the patches that identify it.

Crop -> grey, tone mapping, background masked -> U-Net -> threshold -> opening, closing, specks removed -> usable or not
-> pattern on the pixels of the crop box -> line thickness normalised -> patches with enough white.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from skimage.morphology import skeletonize
from torch import nn

from pusa import keypoints, records, weights
from pusa import photos as photo_files
from pusa.config import Config, device_and_dtype, set_threads
from pusa.pattern import patches, unet
from pusa.pattern.patches import PatchConfig
from pusa.pattern.quality import Quality, signs_of
from pusa.segmentation.masks import crop_mask

PUBLIC_THRESHOLD = 0.6  # of the extractor for Saimaa seals
KEYPOINTS = 300  # of a crop that are sought, where patches lie around them
ALIGN = 64  # px: the shorter side is padded to a multiple, so that crops of like shape share a batch


class PatternConfig(Config):
    """Settings of the pattern extraction. Sizes in px are those of the network's input."""

    weights: str = "starter/pattern"  # a name, a .safetensors file, or NORPPA's unet_seals_512.hdf5
    input_size: int = 512  # px, longer side of the network's input, a multiple of 64; 320 is 2.5x faster
    clahe: float = 2.0  # clip limit of the tone mapping (CLAHE); 0 = off
    threshold: float | None = None  # of the probability; None: what the weights say, else that of the public extractor
    # px, kernel that removes bridges and dots, as in the paper; 0 = off: small pieces go by `speck`, and 2 px cost the
    # starter network 0.01 of F1. From 3 on it eats thin rings
    opening: int = 0
    closing: int = 3  # px, kernel that closes gaps in a ring; 0 = off
    speck: int = 40  # px, smallest area of a connected piece of pattern; 0 = off
    # px, to which lines are normalised, so that patches do not depend on distance. 2 in the public extractor; with the
    # starter weights 4 found two to three times as many individuals of their training archive (docs/results.md)
    line_thickness: float = 4.0
    scale_limits: tuple[float, float] = (
        0.1,
        2.0,
    )  # of that normalisation: a blob is no line, and nothing gains by more
    min_fraction: float = 0.01  # pattern / mask; less is "no pattern"
    min_side: int = 64  # px, longer side of the crop box; smaller seals are "too small"
    # Patterns less likely to be usable than this, by the judge that comes with the weights, are turned down. 0 = none;
    # null = what the weights were fitted for: right in 85 % of those that it lets through
    min_quality: float | None = Field(default=0.0, ge=0, le=1)
    patches: PatchConfig = PatchConfig()
    # Side of a patch, in roots of the mask's area: no pattern is extracted, patches are cut from the grey crop (the
    # paper's rows "no pattern"; `grey.GreyPatches`), for networks of their own. null: patterns
    grey_side: float | None = Field(default=None, gt=0)
    # Crops in one pass of the network. One is as fast on a CPU, and needs least memory; on a GPU 16
    batch: int = Field(default=1, gt=0)
    device: str = "auto"


def prepare(crop: np.ndarray, mask: np.ndarray, config: PatternConfig) -> tuple[np.ndarray, np.ndarray]:
    """`crop` (H, W, 3) RGB uint8 in grey, (h, w) uint8 with a longer side of `input_size`, and its mask (h, w) bool."""
    height, width = mask.shape
    factor = config.input_size / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    shrink = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), size, interpolation=shrink), patches.resize(mask, size)


def network_input(grey: np.ndarray, mask: np.ndarray, config: PatternConfig) -> np.ndarray:
    """The network's input (h, w) uint8: `grey` (h, w) uint8 tone-mapped, and black outside `mask` (h, w) bool."""
    return np.where(mask, tone_map(grey, config.clahe), 0).astype(np.uint8)


def tone_map(grey: np.ndarray, clip: float) -> np.ndarray:
    """CLAHE of a grey picture (H, W) uint8 in tiles of about 64 px; unchanged where `clip` is 0."""
    if not clip:
        return grey
    tiles = tuple(max(1, round(length / 64)) for length in grey.shape[::-1])
    return cv2.createCLAHE(clip, tiles).apply(grey)


def pad(grey: np.ndarray) -> np.ndarray:
    """The picture padded with black at the bottom and right to multiples of 64."""
    height, width = grey.shape
    return np.pad(grey, ((0, -height % ALIGN), (0, -width % ALIGN)))


def binary_mask(probability: np.ndarray, mask: np.ndarray, config: PatternConfig) -> np.ndarray:
    """Pattern (H, W) bool of a probability map (H, W) in [0, 1] inside the seal's `mask` (H, W) bool.

    Threshold, opening, closing, removal of specks, in this order.
    """
    threshold = PUBLIC_THRESHOLD if config.threshold is None else config.threshold
    pattern = ((probability >= threshold) & mask).astype(np.uint8)
    for operation, size in ((cv2.MORPH_OPEN, config.opening), (cv2.MORPH_CLOSE, config.closing)):
        if size:
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
            pattern = cv2.morphologyEx(pattern, operation, kernel)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pattern, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= max(config.speck, 1)
    large[0] = False  # the background
    return large[labels] & mask  # closing may have left the mask


def thickness(pattern: np.ndarray) -> float:
    """Mean line thickness of a pattern (H, W) bool in px: area / length of the skeleton; 0 for an empty one."""
    area = int(pattern.sum())
    if not area:
        return 0.0
    # Measured at 512 px at most: skeletons are slow, and those of large patterns have hairs.
    factor = min(1.0, 512 / max(pattern.shape))
    small = pattern
    if factor < 1:
        size = (max(1, round(pattern.shape[1] * factor)), max(1, round(pattern.shape[0] * factor)))
        small = patches.resize(pattern, size)
    length = int(skeletonize(small).sum())
    return float(small.sum() / length / factor) if length else 1.0  # all lines vanished: thinner than a pixel there


def normalise_thickness(pattern: np.ndarray, config: PatternConfig) -> tuple[np.ndarray, float]:
    """The pattern (H, W) bool resized so that its mean line thickness is `line_thickness`, and the scale (new / old).

    The scale is kept inside `scale_limits`; an empty pattern comes back as it is, at scale 1.
    """
    found = thickness(pattern)
    if not found:
        return pattern, 1.0
    scale = float(np.clip(config.line_thickness / found, *config.scale_limits))
    height, width = pattern.shape
    return patches.resize(pattern, (max(1, round(width * scale)), max(1, round(height * scale)))), scale


@dataclass(frozen=True)
class Trained:
    """A network, in evaluation mode, and what was fitted to it: the threshold of its probability and the judge of its
    patterns, None where its file has none."""

    network: nn.Module
    threshold: float | None = None
    quality: Quality | None = None


def load(name: str) -> Trained:
    """The weights of `name`: "starter/pattern", a .safetensors file, or a Keras .hdf5, .h5 file."""
    if Path(name).suffix in (".hdf5", ".h5"):
        return Trained(unet.read_keras(weights.find(name)))
    stored = weights.load(name, "pattern")
    network = unet.UNet(**stored.settings["network"])
    weights.load_into(network, stored)
    quality = stored.settings.get("quality")
    return Trained(
        network.eval(), stored.settings.get("threshold"), Quality.model_validate(quality) if quality else None
    )


class PatternExtractor:
    """Fills `pattern`, `pattern_fraction`, `usable`, `unusable_reason` and `patch_boxes` of every instance with a crop.

    `network`: takes the place of the config's weights, for training and tests.
    """

    def __init__(self, config: PatternConfig, threads: int | None = None, network: unet.UNet | None = None) -> None:
        set_threads(threads)
        trained = Trained(network) if network is not None else load(config.weights)
        if config.threshold is None:
            config = config.model_copy(update={"threshold": trained.threshold})
        self.config, self.quality = config, trained.quality
        self.device, self.dtype = device_and_dtype(config.device)
        # A copy: the caller's network keeps its number type.
        self.network = (
            copy.deepcopy(trained.network).eval().to(self.device, self.dtype).to(memory_format=torch.channels_last)
        )

    def __call__(self, photos: pa.Table) -> pa.Table:
        nested = records.instances(photos)
        todo, greys, insides = [], [], []
        for instance in (i for row in nested for i in row if i["crop"] is not None):
            x0, y0, x1, y1 = instance["crop_box"]
            if max(x1 - x0, y1 - y0) < self.config.min_side:
                instance |= unusable("too small")
                continue
            todo.append(instance)
            crop = photo_files.decode_jpeg(instance["crop"])
            grey, inside = prepare(crop, _mask_of(instance, crop.shape[:2]), self.config)
            greys.append(grey)
            insides.append(inside)
        inputs = [network_input(g, m, self.config) for g, m in zip(greys, insides, strict=True)]
        for instance, g, m, p in zip(todo, greys, insides, self.probabilities(inputs), strict=True):
            instance |= self._describe(instance, g, m, p)
        return records.with_instances(photos, nested)

    @torch.inference_mode()
    def probabilities(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Probability of "ring", (h, w) float32 in [0, 1], of each network input (h, w) uint8."""
        padded = [pad(grey) for grey in inputs]
        order = sorted(range(len(inputs)), key=lambda i: padded[i].shape)
        found: dict[int, np.ndarray] = {}
        while order:
            shape = padded[order[0]].shape
            now = [i for i in order[: self.config.batch] if padded[i].shape == shape]
            order = order[len(now) :]
            x = torch.from_numpy(np.stack([padded[i] for i in now]))[:, None].to(self.device, self.dtype) / 255
            y = self.network(x.contiguous(memory_format=torch.channels_last)).float().sigmoid()[:, 0].cpu().numpy()
            found |= {i: p[: inputs[i].shape[0], : inputs[i].shape[1]] for i, p in zip(now, y, strict=True)}
        return [found[i] for i in range(len(inputs))]

    def _describe(self, instance: dict, grey: np.ndarray, inside: np.ndarray, probability: np.ndarray) -> dict:
        x0, y0, x1, y1 = (int(v) for v in instance["crop_box"])
        small = binary_mask(probability, inside, self.config)
        fraction = float(small.sum() / max(int(inside.sum()), 1))
        if fraction < self.config.min_fraction:
            return unusable("no pattern", fraction)
        pattern = patches.resize(small, (x1 - x0, y1 - y0))
        reason = None
        if self.quality is not None and self.config.min_quality != 0:
            signs = signs_of(grey, inside, probability, small, max(x1 - x0, y1 - y0))
            _, reason = self.quality.judge(signs, self.config.min_quality)
        boxes = np.zeros((0, 4))
        if reason is None:
            normalised, _ = normalise_thickness(pattern, self.config)
            points = keypoints.points_in(grey, inside, KEYPOINTS) if self.config.patches.at == "keypoints" else None
            _, boxes = patches.extract(normalised, self.config.patches, points)
            if points is not None and not len(boxes):  # nothing stands out on a dim picture: then anywhere
                _, boxes = patches.extract(normalised, self.config.patches)
            boxes = patches.to_photo(boxes, normalised.shape[::-1], instance["crop_box"])
            reason = None if len(boxes) else "pattern too sparse"
        return {
            "pattern": photo_files.encode_mask_png(pattern),
            "pattern_fraction": fraction,
            "usable": reason is None,
            "unusable_reason": reason,
            "patch_boxes": boxes.tolist(),
        }


def _mask_of(instance: dict, shape: tuple[int, int]) -> np.ndarray:
    """The seal's mask on the pixels of the stored crop; all of the crop where the instance is only a box."""
    if instance["mask"] is None:
        return np.ones(shape, bool)
    return crop_mask(instance["mask"], instance["crop_box"], shape[::-1])


def unusable(reason: str, fraction: float = 0.0) -> dict:
    """The fields of an instance without patches, and why."""
    return {
        "pattern": None,
        "pattern_fraction": fraction,
        "usable": False,
        "unusable_reason": reason,
        "patch_boxes": [],
    }
