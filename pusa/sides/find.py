"""The side that every animal shows, where nobody has said it: a flank is another pattern than the other one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from pusa import photos as photo_files
from pusa import records, weights
from pusa.config import Config, device_and_dtype, set_threads
from pusa.segmentation.masks import crop_mask
from pusa.sides.network import KINDS, SideNetwork, picture


class SideConfig(Config):
    """Settings of the sides."""

    # A file of `pusa train sides`; null: sides are those of the input, else unknown. Not starter/sides: untaught, one
    # in seven of the flanks that it tells is wrong, and each of these may be one animal more in the count of a flank
    weights: str | None = None
    least: float = Field(default=0.8, ge=0, le=1)  # probability of a side that is told; below it is unknown
    device: str = "auto"


class SideFinder:
    """Fills `side` and `side_probability` of every instance with a crop whose side the input does not say."""

    def __init__(self, config: SideConfig, threads: int | None = None, network: SideNetwork | None = None) -> None:
        set_threads(threads)
        self.config = config
        self.device, _ = device_and_dtype(config.device)  # in float32: it is small, and a side is told by a threshold
        if network is None and config.weights is not None:
            stored = weights.load(config.weights, "sides")
            network = SideNetwork(**stored.settings["network"])
            weights.load_into(network, stored)
        self.network = network and network.eval().to(self.device)

    def __call__(self, photos: pa.Table) -> pa.Table:
        nested = records.instances(photos)
        # What an earlier run told has a probability; what the input says has none, and stays.
        mine = [i for row in nested for i in row if i["side"] == "unknown" or i["side_probability"] is not None]
        for instance in mine:
            instance["side"], instance["side_probability"] = "unknown", None
        if seen := [i for i in mine if i["crop"] is not None and self.network is not None]:
            for instance, told in zip(seen, self.probabilities([_picture(i) for i in seen]), strict=True):
                instance["side_probability"] = float(told.max())
                if told.max() >= self.config.least:
                    instance["side"] = KINDS[told.argmax()]
        return records.with_instances(photos, nested)

    @torch.inference_mode()
    def probabilities(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Of KINDS (n, 4), for pictures (2, 64, 128) uint8 as `picture` makes them."""
        assert self.network is not None
        seen = torch.from_numpy(np.stack(pictures)).to(self.device)
        return self.network(seen).softmax(dim=1).cpu().numpy()


def _picture(instance: dict[str, Any]) -> np.ndarray:
    grey = cv2.cvtColor(photo_files.decode_jpeg(instance["crop"]), cv2.COLOR_RGB2GRAY)
    return picture(grey, crop_mask(instance["mask"], instance["crop_box"], grey.shape[::-1]))
