"""Settings of a synthetic archive: one YAML, from presets/ or the user's own."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import Field, model_validator

from pusa.config import Config
from pusa.errors import UserError

PRESETS = Path(__file__).parent / "presets"
MAX_PLACES = 6


class SynthConfig(Config):
    """What an archive holds. Pairs are ranges."""

    photos: int = Field(60, ge=1)  # in sequences; those of `database` come on top
    sequences: int = Field(10, ge=1)
    individuals: int = Field(12, ge=1)
    encounters: int | None = Field(None, ge=1)  # animals summed over sequences; None: two of each individual and more
    animals: tuple[int, int] = (1, 8)  # a sequence
    sequence_photos: tuple[int, int] = (3, 69)
    returning: float = Field(1.0, ge=0, le=1)  # share of individuals that come in several sequences
    newcomers: float = Field(0.125, ge=0, lt=1)  # share that comes in the later half of the sequences only
    pups: float = Field(0.0, ge=0, le=1)  # share of the individuals that are seen once which are pups
    absent: float = Field(0.15, ge=0, lt=1)  # how often an animal of the sequence is not in a photo; 0 = always there
    same_side: float = Field(0.8, ge=0, le=1)  # how often an individual shows its favourite flank
    fixed: float = Field(0.0, ge=0, le=1)  # share of sequences by game cameras on posts; the others are handheld
    database: int = Field(0, ge=0)  # photos of one animal each, of every individual's flank, before all sequences
    places: int = Field(4, ge=1, le=MAX_PLACES)
    seed: int = Field(0, ge=0)  # same seed, same bytes
    renderer: Literal["a", "b"] = "a"  # a: to train on; b: another body, coat, light and ground, to test on
    look: dict[str, Any] = {}  # noqa: RUF012  what differs from the renderer's defaults: renderer_a/look.py, renderer_b

    @model_validator(mode="after")
    def _possible(self) -> SynthConfig:
        n, (low, high), (fewest, most) = self.sequences, self.animals, self.sequence_photos
        if low < 1 or low > high:
            raise UserError(f"animals: expected a range from 1 or more, low to high, got {self.animals}.")
        if fewest < 1 or fewest > most:
            raise UserError(
                f"sequence_photos: expected a range from 1 or more, low to high, got {self.sequence_photos}."
            )
        if not fewest * n <= self.photos <= most * n:
            raise UserError(
                f"{n} sequences of {fewest} to {most} photos are at least {fewest * n} photos and at most {most * n}, "
                f"not {self.photos}."
            )
        if low > self.individuals:
            raise UserError(f"A sequence of {low} animals needs at least {low} individuals, not {self.individuals}.")
        if self.encounters is None and self.individuals > high * n:
            raise UserError(f"{n} sequences hold at most {high * n} individuals, not {self.individuals}.")
        seen = min(self.individuals, self.encounters or self.individuals)
        once = round((1 - self.returning) * seen)
        room = once + (seen - once) * n  # encounters that these individuals can have
        if low * n > room:
            raise UserError(
                f"{n} sequences of at least {low} animals need {low * n} encounters; {self.individuals} individuals, "
                f"{once} of them seen once only, have at most {room}. Take more individuals or a larger `returning`."
            )
        if self.encounters is not None and not low * n <= self.encounters <= min(high * n, room):
            raise UserError(
                f"encounters: {n} sequences of {low} to {high} animals hold {low * n} to {min(high * n, room)}, "
                f"not {self.encounters}."
            )
        if 0 < self.database < self.individuals:
            raise UserError(
                f"database: {self.individuals} individuals need at least as many photos, not {self.database}."
            )
        return self


def renderer(name: str) -> ModuleType:
    """The renderer `name`: a package as `pusa.synthetic.photo` describes it."""
    return importlib.import_module(f"pusa.synthetic.renderer_{name}")


def preset(name: str) -> Path:
    """The file of a preset. Raises UserError listing those that exist."""
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml")))
        raise UserError(f"There is no preset {name!r}. Known presets: {known}.")
    return path
