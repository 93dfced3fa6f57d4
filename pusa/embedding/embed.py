"""Embedding of patches: 512 numbers for each patch of each instance (method: section 4)."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pusa import photos as photo_files
from pusa import records, weights
from pusa.config import Config, device_and_dtype, set_threads
from pusa.embedding.network import DIMENSIONS, PatchNetwork
from pusa.errors import UserError
from pusa.pattern import grey, patches


class EmbeddingConfig(Config):
    """Settings of the patch embedding."""

    weights: str = "starter/embedding"  # a name or a .safetensors file
    batch: int = 128  # patches in one pass of the network; on a GPU 1024
    device: str = "auto"


def load(name: str) -> PatchNetwork:
    """The network of weights `name`, in evaluation mode."""
    stored = weights.load(name, "embedding")
    network = PatchNetwork(**stored.settings["network"])
    weights.load_into(network, stored)
    return network.eval()


class PatchEmbedder:
    """Fills `embeddings` of every instance that has patches; of the others it stays null.

    `network`: takes the place of the config's weights, for training and tests.
    """

    def __init__(
        self, config: EmbeddingConfig, threads: int | None = None, network: PatchNetwork | None = None
    ) -> None:
        set_threads(threads)
        self.config = config
        self.device, self.dtype = device_and_dtype(config.device)
        network = (network or load(config.weights)).eval()
        # A copy: the caller's network keeps its number type.
        self.network = copy.deepcopy(network).to(self.device, self.dtype).to(memory_format=torch.channels_last)

    def __call__(self, photos: pa.Table) -> pa.Table:
        nested = records.instances(photos)
        todo = [i for row in nested for i in row if i["patch_boxes"]]
        found = [patches_of(i) for i in todo]
        vectors = self.embed(np.concatenate(found) if found else np.zeros((0, patches.SIZE, patches.SIZE), bool))
        ends = np.cumsum([len(f) for f in found])[:-1]
        for instance, own in zip(todo, np.split(vectors, ends) if todo else [], strict=True):
            instance["embeddings"] = own.astype(np.float16).ravel()
        return records.with_instances(photos, nested)

    @torch.inference_mode()
    def embed(self, found: np.ndarray) -> np.ndarray:
        """Embeddings (n, 512) float32, rows of length 1, of patches (n, 64, 64), bool or float in [0, 1].

        Raises UserError for patches of another shape.
        """
        if found.shape[1:] != (patches.SIZE, patches.SIZE):
            raise UserError(f"Expected patches of shape (n, {patches.SIZE}, {patches.SIZE}), got {found.shape}.")
        vectors = np.zeros((len(found), DIMENSIONS), np.float32)
        for start in range(0, len(found), self.config.batch):
            x = torch.from_numpy(found[start : start + self.config.batch, None]).to(self.device, self.dtype)
            # Few sizes of batch: kernels are made, and kept in memory, for each (oneDNN, cuDNN).
            padded = torch.cat((x, x.new_zeros(-len(x) % 32, *x.shape[1:])))
            vectors[start : start + len(x)] = self.network(padded)[: len(x)].cpu().numpy()
        return vectors


def patches_of(instance: dict[str, Any]) -> np.ndarray:
    """Patches (n, 64, 64) of an instance at its `patch_boxes`: bool, of its stored pattern; where there is none, of its
    grey crop, float32 in [0, 1]."""
    if instance["pattern"] is None:
        return grey.cut(instance)
    pattern = photo_files.decode_mask_png(instance["pattern"])
    boxes = np.array(instance["patch_boxes"], np.float32).reshape(-1, 4)
    return patches.cut(pattern, boxes, instance["crop_box"])
