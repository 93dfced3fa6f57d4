"""Checkpoints of detectron2 in: its trainer's (.pth), its model zoo's and MSRA's ImageNet weights (.pkl).

They are read without detectron2, and nothing in them is run: a .pth must hold tensors and plain values, a .pkl NumPy
arrays. The architecture and the number of classes follow from the tensors.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from pusa import weights
from pusa.errors import UserError
from pusa.weights import Weights

SUFFIXES = (".pth", ".pkl")
PREFIXES = {"proposal_generator.rpn_head.": "rpn.head."}  # detectron2's name: ours; all others are the same
LEFT_OUT = re.compile(r"pixel_(mean|std)$|proposal_generator\.anchor_generator\.|.*\.num_batches_tracked$")
MSRA = {"branch1": "shortcut", "branch2a": "conv1", "branch2b": "conv2", "branch2c": "conv3"}
MSRA_ENDS = {"w": "weight", "bn_s": "norm.weight", "bn_b": "norm.bias"}


def latin1(text: str, encoding: str) -> bytes:
    """What `_codecs.encode` does in pickles: bytes written as text."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


class ArraysOnly(pickle.Unpickler):
    """Reads plain values and NumPy arrays; refuses whatever else a pickle would have made or called."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): latin1,
        }
        if (module, name) in allowed:
            return allowed[module, name]
        if re.fullmatch(r"numpy\.(_core|core)\.(multiarray|numeric)", module) and name in (
            "_reconstruct", "scalar", "_frombuffer"
        ):  # fmt: skip
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it wants {module}.{name}")


def read(path: Path) -> Weights:
    """The weights of a trained Mask R-CNN, with the names and settings of `mask_rcnn.build`.

    Raises UserError where the file is damaged, holds other objects than arrays, or is another network.
    """
    found = _tensors(path)
    tensors = {ours(name): tensor for name, tensor in found.items() if not LEFT_OUT.match(name)}
    return Weights(str(path), "segmentation", weights.digest(path), _settings(path, tensors), tensors)


def read_resnet(path: Path) -> dict[str, Tensor] | None:
    """The tensors of MSRA's ResNet for ImageNet (R-50.pkl, R-101.pkl), named as in `resnet.ResNet`; None where the
    file is something else."""
    found = _tensors(path)
    if "conv1_w" not in found:
        return None
    result = {}
    for name, tensor in found.items():
        if end := re.fullmatch(r"(?:res_)?conv1_(w|bn_s|bn_b)", name):
            result[f"stem.conv1.{MSRA_ENDS[end[1]]}"] = tensor
        elif part := re.fullmatch(r"(res\d)_(\d+)_(branch\w+?)_(w|bn_s|bn_b)", name):
            result[f"{part[1]}.{part[2]}.{MSRA[part[3]]}.{MSRA_ENDS[part[4]]}"] = tensor
    return result


def ours(name: str) -> str:
    """Our name of one of detectron2's tensors."""
    return _renamed(name, PREFIXES)


def theirs(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of ours under detectron2's names."""
    back = {new: old for old, new in PREFIXES.items()}
    return {_renamed(name, back): tensor for name, tensor in tensors.items()}


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _tensors(path: Path) -> dict[str, Tensor]:
    """All arrays of a file by name, float32."""
    try:
        with path.open("rb") as file:
            content = _unpickled(file) if path.suffix == ".pkl" else torch.load(file, "cpu", weights_only=True)
    except OSError as e:
        raise UserError(f"Cannot read {path}: {e.strerror}.") from e
    except Exception as e:  # a damaged pickle raises whatever its bytes happen to say
        reason = " ".join(str(e).split())[:200]
        raise UserError(
            f"{path} was not read: expected a checkpoint of detectron2 with tensors and plain values only ({reason}). "
            "If you trust the file, load it where it was made and save its `model` alone."
        ) from e
    for key in ("model", "blobs"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected a checkpoint with tensors by name, found {type(content).__name__}.")
    result = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            result[str(name)] = value.float()
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            result[str(name)] = torch.from_numpy(value.astype(np.float32))
    return result


def _unpickled(file: BinaryIO) -> Any:
    return ArraysOnly(file, encoding="latin1").load()  # files of Python 2, as the oldest of the zoo are


def _settings(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The architecture that tensors belong to."""
    score = tensors.get("roi_heads.box_predictor.cls_score.weight")
    prefix = "backbone.bottom_up." if "backbone.fpn_lateral2.weight" in tensors else "backbone."
    blocks = sum(name.startswith(f"{prefix}res4.") and name.endswith("conv1.weight") for name in tensors)
    depth = {6: 50, 23: 101}.get(blocks)
    if score is None or depth is None or "roi_heads.mask_head.predictor.weight" not in tensors:
        what = [] if score is not None else ["no box predictor"]
        what += [] if "roi_heads.mask_head.predictor.weight" in tensors else ["no mask head"]
        what += [] if depth else [f"{blocks} blocks in res4 (ResNet-50 has 6, ResNet-101 has 23)"]
        raise UserError(
            f"{path} is not a Mask R-CNN of detectron2 with ResNet-50 or -101 and FPN, C4 or DC5: {', '.join(what)}."
        )
    kind = "FPN" if prefix != "backbone." else "C4" if "roi_heads.res5.0.conv1.weight" in tensors else "DC5"
    return {"architecture": f"R_{depth}_{kind}", "classes": len(score) - 1}
