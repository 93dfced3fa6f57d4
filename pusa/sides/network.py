"""The network that tells the side: five convolutions over the animal on black, beside its outline.

A left flank mirrored is a right one. So both views are looked at, and the answers are averaged: what is said of a
picture and of its mirror image agrees, whatever the weights are.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor, nn

WIDTH, HEIGHT = 128, 64  # px of the network's input: most animals lie
# What it tells apart. How far an animal has rolled over cannot be told of kinds that it has not learnt (of renderer B's
# seals half were seen from above or below, it said): such pictures are left or right, by the way they point.
KINDS = ("left", "right", "front", "back")
MIRRORED = [1, 0, 2, 3]


def picture(grey: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The network's input (2, 64, 128) uint8 from a crop in grey (h, w) uint8 and its mask (h, w) bool: the animal on
    black, its grey values stretched to 0..255, and its outline; aspect kept, in the middle."""
    factor = min(WIDTH / grey.shape[1], HEIGHT / grey.shape[0])
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    flags = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = cv2.resize(grey, size, interpolation=flags).astype(np.float32)
    mask = cv2.resize(inside.astype(np.uint8) * np.uint8(255), size, interpolation=flags)
    if (mask > 127).any():
        low, high = np.percentile(small[mask > 127], [1, 99])
        small = np.clip((small - low) / max(high - low, 1.0), 0, 1) * 255
    x, y = (WIDTH - size[0]) // 2, (HEIGHT - size[1]) // 2
    found = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    found[0, y : y + size[1], x : x + size[0]] = np.where(mask > 127, small, 0)
    found[1, y : y + size[1], x : x + size[0]] = mask
    return found


class SideNetwork(nn.Module):
    """Pictures (n, 2, 64, 128), 0..255, to logits (n, 4) of KINDS."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 2
        for channels in (width, 2 * width, 4 * width, 6 * width, 8 * width):
            layers += [nn.Conv2d(before, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
            layers += [nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)]
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            before = channels
        layers += [nn.Flatten(), nn.Dropout(0.2), nn.Linear(before * (HEIGHT // 32) * (WIDTH // 32), len(KINDS))]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        x = x.float() / 255
        both = self.layers(torch.cat([x, x.flip(-1)])).float()
        seen, mirrored = both.chunk(2)
        return (seen + mirrored[:, MIRRORED]) / 2
