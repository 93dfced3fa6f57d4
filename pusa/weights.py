"""Weights files: safetensors that carry the settings of their network, found by name or path, told apart by hash.

A weights file holds tensors (float16 where that loses nothing that matters) and, in its header, one JSON text under the
key `pusa`: {"kind": "pattern", "settings": {...}}. The settings are what the network's class needs to be built again.
Starter weights lie in `weights/` of the clone; `weights/index.json` holds their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pusa.errors import UserError

STARTER_DIR = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True)
class Weights:
    """A loaded weights file: `tensors` by name (float32 on the CPU), `settings` of the network, `digest` (SHA-256
    hex).
    """

    name: str
    kind: str
    digest: str
    settings: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def find(name: str) -> Path:
    """The file of weights given as `starter/<name>` or as a path. Raises UserError where there is none."""
    if name.startswith("starter/"):
        path = STARTER_DIR / f"{name.removeprefix('starter/')}.safetensors"
        if not path.is_file():
            known = sorted(f"starter/{p.stem}" for p in STARTER_DIR.glob("*.safetensors"))
            raise UserError(
                f"There are no weights {name!r}. Known names: {', '.join(known) or 'none'}; or give a path."
            )
        return path
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f"There is no weights file {name}. Give a path to a .safetensors file, or a name like starter/pattern."
        )
    return path


def absolute(name: str) -> str:
    """The name of weights from any working directory: `starter/<name>` as it is, a path made absolute."""
    return name if name.startswith("starter/") else str(Path(name).resolve())


def digest(path: Path) -> str:
    """SHA-256 of a file, as hex. Raises UserError where it cannot be read."""
    try:
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise UserError(f"Cannot read {path}: {e.strerror}.") from e


def digest_of_starter(path: Path) -> str:
    """SHA-256 of a file in `weights/`, as hex. Raises UserError where it differs from the one in index.json."""
    sha, expected = digest(path), json.loads((STARTER_DIR / "index.json").read_text()).get(path.stem)
    if expected != sha:
        raise UserError(
            f"{path} is damaged (SHA-256 {sha[:12]}, expected {str(expected)[:12]}). Check the file out again."
        )
    return sha


def load(name: str, kind: str) -> Weights:
    """Loads weights of one `kind` ("segmentation", "pattern", "embedding", "codebook", "whitening", "age",
    "marks", "sides"), or a set of artificial "patches"; floating-point tensors come as float32.

    Raises UserError where the file is missing, damaged, of another kind, or (starter weights) differs from its hash.
    """
    path = find(name)
    sha = digest_of_starter(path) if name.startswith("starter/") else digest(path)
    try:
        with safe_open(path, framework="pt") as f:
            header = json.loads((f.metadata() or {}).get("pusa", "null"))
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, json.JSONDecodeError) as e:
        raise UserError(f"{path} is not a readable safetensors file: {e}") from e
    if not header or header.get("kind") != kind:
        found = header.get("kind") if header else "no Pusa header"
        raise UserError(f"{path}: expected {kind} weights, found {found}.")
    tensors = {k: t.float() if t.is_floating_point() else t for k, t in tensors.items()}
    return Weights(name, kind, sha, header["settings"], tensors)


def save(path: Path, kind: str, settings: dict[str, Any], tensors: dict[str, torch.Tensor], half: bool = True) -> str:
    """Writes a weights file and returns its SHA-256. `half` stores floating-point tensors as float16."""

    def stored(t: torch.Tensor) -> torch.Tensor:
        t = t.detach().cpu()
        return (t.half() if half and t.is_floating_point() else t).contiguous()

    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"pusa": json.dumps({"kind": kind, "settings": settings}, sort_keys=True)}
    part = path.with_name(path.name + ".part")
    save_file({k: stored(t) for k, t in tensors.items()}, part, metadata=metadata)
    part.replace(path)  # whole or not at all
    return digest(path)


def load_into(module: torch.nn.Module, weights: Weights) -> None:
    """Copies the tensors into `module`; names and shapes must agree exactly. Raises UserError listing what differs."""
    expected, found = module.state_dict(), weights.tensors
    skip = {k for k in expected if k.endswith("num_batches_tracked")}
    missing = sorted(set(expected) - set(found) - skip)
    foreign = sorted(set(found) - set(expected))
    shapes = [f"{k} {tuple(found[k].shape)} instead of {tuple(v.shape)}"
              for k, v in expected.items() if k in found and found[k].shape != v.shape]  # fmt: skip
    if missing or foreign or shapes:
        raise UserError(
            f"{weights.name} does not fit the {weights.kind} network: missing {missing[:3]}, not known {foreign[:3]}, "
            f"shapes {shapes[:3]}. It was probably saved by another version."
        )
    module.load_state_dict(found, strict=False)
