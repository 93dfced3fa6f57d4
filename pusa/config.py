"""Settings: one pydantic model a stage, read from YAML, overridden by flags, written into the run's manifest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pusa.errors import UserError

if TYPE_CHECKING:
    import torch

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of all settings: unknown keys are errors, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Fitted(Config):
    """Numbers that were fitted to cases, kept as JSON; the starter's lie beside the starter weights."""

    FILE: ClassVar[str]  # of the starter
    COMMAND: ClassVar[str]  # that makes one

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        path.write_text(self.model_dump_json(indent=1))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads it. Raises UserError for a file that is missing, or is none of this kind."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as e:
            raise UserError(f"Cannot read {path}: {e.strerror}. `{cls.COMMAND}` makes one.") from e
        except ValidationError as e:
            raise UserError(f"{path} does not hold what `{cls.COMMAND}` writes. Make one with it.") from e

    @classmethod
    def starter(cls) -> Self:
        """The one where there is none of one's own. Raises UserError where its file is not the one that was shipped."""
        from pusa.weights import STARTER_DIR, digest_of_starter

        digest_of_starter(STARTER_DIR / cls.FILE)
        return cls.load(STARTER_DIR / cls.FILE)


def load_config(model: type[C], path: Path | None = None, overrides: dict[str, Any] | None = None) -> C:
    """Settings of `model` from a YAML file (or the defaults), with dotted `overrides` such as {"pattern.threshold":
    0.5}.

    Raises UserError naming the file and the key that does not fit.
    """
    values = {} if path is None else read_yaml(path)
    for key, value in (overrides or {}).items():
        node = values
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    try:
        return model.model_validate(values)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        source = f"{path}: " if path else ""
        raise UserError(f"{source}setting `{where}`: {first['msg']} (got {first['input']!r}).") from e


def read_yaml(path: Path, expected: str = "a mapping of settings") -> dict[str, Any]:
    """The mapping in a YAML file; empty where the file is. Raises UserError for what cannot be read, or is none."""
    try:
        values = yaml.safe_load(Path(path).read_text()) or {}
    except OSError as e:
        raise UserError(f"Cannot read the settings file {path}: {e.strerror}.") from e
    except yaml.YAMLError as e:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(e).split())}") from e
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected {expected}, found {type(values).__name__}.")
    return values


def device_and_dtype(name: str = "auto") -> tuple[torch.device, torch.dtype]:
    """The device and the number type that networks run in.

    `auto` is CUDA where there is one (in float16); else the CPU, in bfloat16 where it computes in it (there 2 to 3x
    faster), else float32.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        return device, torch.float16
    return device, torch.bfloat16 if has_bfloat16(device) else torch.float32


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 (a CPU: AMX or AVX-512 BF16); where it must be emulated, it is slow."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # no public question yet in torch 2.15
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def set_threads(threads: int | None) -> None:
    """Limits torch and OpenCV to `threads` threads in this process, so that the pools of a run share the cores."""
    if not threads:
        return
    import cv2
    import torch

    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
