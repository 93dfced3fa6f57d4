"""Settings of renderer A: what photos look like. Pairs are ranges that values are drawn from."""

from __future__ import annotations

from pydantic import model_validator

from pusa.config import Config
from pusa.errors import UserError
from pusa.synthetic.renderer_a.backgrounds import GROUNDS
from pusa.synthetic.renderer_a.rings import RingModel

_SHARES = ("hidden", "in_water", "crowded", "shade", "infrared", "moving")  # fields that are shares, 0 to 1


class Look(Config):
    """What photos look like. Lengths in pixels are of an unzoomed photo."""

    width: int = 1280  # pixels of the photo
    height: int = 960
    ring_models: tuple[RingModel, ...] = ("placed", "reaction")  # an individual has one of them
    grounds: tuple[str, ...] = GROUNDS
    length: tuple[float, float] = (110.0, 600.0)  # pixels of an adult's body length
    girth: tuple[float, float] = (0.115, 0.165)  # largest radius in body lengths: thin to fat
    horizon: tuple[float, float] = (-0.5, 0.4)  # share of the height; below 0 it is above the photo
    contrast: tuple[float, float] = (0.0, 1.0)  # of rings on fur; 0 = invisible
    moult: tuple[float, float] = (0.0, 0.5)  # share of the coat that is old fur: bleached, hardly any rings
    hidden: float = 0.3  # share of animals with a rock before them
    in_water: float = 0.15  # share of animals half in the water, where there is water
    crowded: float = 0.25  # share of scenes whose animals lie so close that they hide each other
    sun: tuple[float, float] = (0.0, 0.85)  # direct light against light from the sky
    shade: float = 0.25  # share of scenes with shadows of trees and rocks across them
    warmth: tuple[float, float] = (-0.10, 0.18)  # colour of the light: red up, blue down
    haze: tuple[float, float] = (0.0, 0.3)  # of the far end of the scene
    infrared: float = 0.12  # share of scenes at night by infrared flash, in grey
    blur: tuple[float, float] = (0.3, 1.4)  # of lens and sensor, standard deviation in pixels
    moving: float = 0.15  # share of photos in which the camera moved or the focus was wrong ...
    smear: tuple[float, float] = (1.5, 5.0)  # ... by so many pixels
    noise: tuple[float, float] = (1.5, 9.0)  # standard deviation in grey levels
    quality: tuple[int, int] = (65, 95)  # of the JPEG
    zoom: tuple[float, float] = (1.0, 1.35)  # of a camera in hand

    @model_validator(mode="after")
    def _possible(self) -> Look:
        for name, value in self:
            if isinstance(value, tuple) and value and not isinstance(value[0], str) and value[0] > value[1]:
                raise UserError(f"{name}: the range {value} is upside down")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}: expected a share from 0 to 1, got {getattr(self, name)}")
        for name in ("contrast", "moult", "sun", "haze"):
            low, high = getattr(self, name)
            if low < 0 or high > 1:
                raise UserError(f"{name}: expected values from 0 to 1, got {(low, high)}")
        for name in ("girth", "blur", "smear", "noise", "quality", "zoom"):
            if getattr(self, name)[0] < 0:
                raise UserError(f"{name}: must not be negative, got {getattr(self, name)}")
        unknown = set(self.grounds) - set(GROUNDS)
        if unknown or not self.grounds:
            raise UserError(f"grounds: expected some of {', '.join(GROUNDS)}, got {self.grounds}")
        if not self.ring_models:
            raise UserError("ring_models: expected placed, reaction or both, got none")
        if min(self.width, self.height) < 64 or self.length[0] < 20:
            raise UserError("photos must have at least 64 px a side, and bodies at least 20 px of length")
        return self
