"""Key points of a grey picture, described by the network: 128 numbers of what is around each, turned, of one size."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pusa import weights
from pusa.config import device_and_dtype
from pusa.marks.network import LENGTH, SIDE, MarkNetwork

LEVELS = 3  # of a picture, each half as large as the one before it
STEPS = 256  # of the numbers of a descriptor; few are above 127 / 256
BATCH = 512


def levels(grey: np.ndarray) -> list[np.ndarray]:
    """A grey picture (H, W) uint8, and it made smaller: a pixel (x, y) of level k lies at 2^k (x, y) of the first."""
    found = [grey]
    while len(found) < LEVELS:
        found.append(cv2.pyrDown(found[-1]))
    return found


def cut(pictures: Sequence[np.ndarray], marks: np.ndarray, span: float) -> np.ndarray:
    """Surroundings (n, 32, 32) uint8, `span` sizes wide, of marks (n, 4) = x, y, size (px), angle (degrees) in a
    picture by its `levels`, turned by the angle; beyond the picture's edge its last pixels go on.

    Each is taken from the level whose pixels are nearest to its own in size.
    """
    found = np.empty((len(marks), SIDE, SIDE), np.uint8)
    flags, half = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, (SIDE - 1) / 2
    for i, (x, y, size, angle) in enumerate(marks.tolist()):
        step = span * size / SIDE  # px of the picture
        level = min(max(round(math.log2(step)), 0), LEVELS - 1)
        smaller = 0.5**level
        c, s = (smaller * step * f(math.radians(angle)) for f in (math.cos, math.sin))
        there = np.array([[c, -s, smaller * x - (c - s) * half], [s, c, smaller * y - (s + c) * half]])
        cv2.warpAffine(pictures[level], there, (SIDE, SIDE), found[i], flags, cv2.BORDER_REPLICATE)
    return found


def of_keypoints(points: Sequence[cv2.KeyPoint]) -> np.ndarray:
    """OpenCV's key points as marks (n, 4) float32: x, y, size, angle."""
    return np.array([(*p.pt, p.size, p.angle) for p in points], np.float32).reshape(-1, 4)


class MarkDescriber:
    """Describes marks. `network` takes the place of the weights, for training and tests."""

    def __init__(self, name: str = "", device: str = "auto", network: MarkNetwork | None = None) -> None:
        self.device, dtype = device_and_dtype(device)
        network = network or load(name)
        self.span, self.upright = network.span, network.upright
        self.network = _folded(network).to(self.device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def of_picture(self, grey: np.ndarray, points: Sequence[cv2.KeyPoint]) -> np.ndarray:
        """Descriptors (n, 128) int8 of the key points of a grey picture (H, W) uint8."""
        return self(cut(levels(grey), of_keypoints(points), self.span))

    @torch.inference_mode()
    def __call__(self, surroundings: np.ndarray) -> np.ndarray:
        """Descriptors (n, 128) int8, of length 256 but for rounding, of surroundings (n, 32, 32) uint8."""
        found = np.zeros((len(surroundings), LENGTH), np.int8)
        for part in (slice(i, i + BATCH) for i in range(0, len(surroundings), BATCH)):
            x = torch.from_numpy(surroundings[part, None]).to(self.device)
            # Few sizes of batch: kernels are made, and kept in memory, for each (oneDNN, cuDNN).
            padded = torch.cat((x, x.new_zeros(-len(x) % 64, *x.shape[1:])))
            vectors = self.network(padded)[: len(x)]
            found[part] = (vectors * STEPS).round().clamp(-127, 127).cpu().numpy()
        return found


def load(name: str) -> MarkNetwork:
    """The network of weights `name`, in evaluation mode."""
    stored = weights.load(name, "marks")
    network = MarkNetwork(**stored.settings["network"])
    weights.load_into(network, stored)
    return network.eval()


@functools.cache
def describer(name: str) -> MarkDescriber:
    """The describer of weights `name`, made once a process."""
    return MarkDescriber(name)


def _folded(network: MarkNetwork) -> MarkNetwork:
    """A copy in evaluation mode whose normalisation is part of its convolutions: half the time on a CPU."""
    network = copy.deepcopy(network).eval()
    layers: list[nn.Module] = []
    for layer in network.layers:
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)  # type: ignore[type-var]
        elif not isinstance(layer, nn.Dropout):
            layers.append(layer)
    network.layers = nn.Sequential(*layers)
    return network.eval()
