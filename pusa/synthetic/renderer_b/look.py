"""What the photos of renderer B look like: ranges and shares that scenes are drawn from."""

from __future__ import annotations

from pydantic import model_validator

from pusa.config import Config
from pusa.errors import UserError

Range = tuple[float, float]
SMALLEST = 64  # pixels of width and height


class Look(Config):
    """Settings of photos. Pairs are ranges (low, high); shares are 0..1. Blur is in pixels of a photo 1280 wide."""

    width: int = 1280  # pixels of a photo
    height: int = 960
    quality: tuple[int, int] = (60, 92)  # of the JPEG
    length: Range = (120.0, 560.0)  # pixels of an adult from nose to tail in the middle of the photo, lying across it
    contrast: Range = (0.1, 0.9)  # of rings against the coat, dry and in good light; 0 = invisible
    hidden: float = 0.35  # share of animals with a stone, ice or reeds before them
    in_water: float = 0.25  # share of animals that float half under water
    infrared: float = 0.25  # share of scenes shot at night by an infrared flash, with a stamp bar
    wet: Range = (0.0, 1.0)  # fur: 0 = dry and brownish, 1 = wet, dark and glossy
    pitch: Range = (6.0, 30.0)  # degrees that the camera looks down
    sun: Range = (12.0, 60.0)  # degrees of the sun above the horizon
    overcast: float = 0.4  # share of scenes by day without a sun
    haze: Range = (0.0, 0.15)  # share of light lost to haze at the middle of the photo
    blur: Range = (0.35, 1.3)  # sigma of the lens blur, pixels
    shake: float = 0.25  # share of shots blurred by motion
    motion: Range = (1.5, 6.0)  # pixels of that motion
    noise: Range = (0.004, 0.03)  # sigma of the sensor noise, as a share of white
    exposure: Range = (0.7, 1.35)  # brightness, as a factor

    @model_validator(mode="after")
    def _possible(self) -> Look:
        for name, value in self:
            if isinstance(value, tuple):
                if value[0] > value[1]:
                    raise UserError(f"`{name}`: expected a range from low to high, came {value[0]} to {value[1]}.")
                if value[0] < 0:
                    raise UserError(f"`{name}`: expected values from 0 up, came {value[0]}.")
            elif isinstance(value, float) and not 0 <= value <= 1:
                raise UserError(f"`{name}`: expected a share from 0 to 1, came {value}.")
            elif isinstance(value, int) and value < SMALLEST:
                raise UserError(f"`{name}`: expected at least {SMALLEST} pixels, came {value}.")
        return self
