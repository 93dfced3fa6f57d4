"""The learning rate over a training run."""

from __future__ import annotations

import math


def learning_rate_factor(progress: float, warm_up: float) -> float:
    """Linear rise over the fraction `warm_up` of the run, then half a cosine to 0; `progress` in 0..1."""
    if progress < warm_up:
        return max(progress / warm_up, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min((progress - warm_up) / (1 - warm_up), 1)))
