"""The pictures of one encounter are of one animal in one short time: a flank that few of them show was told wrongly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pusa.records import FLANKS

FEW = 1 / 3  # of the flanks told; so many and fewer are mistakes


def agreed(told: Sequence[tuple[str, float | None]]) -> list[str]:
    """The sides of the pictures of one encounter, each given with its `side_probability`: as the input says them (no
    probability), or as the network told them, but for the flank that only FEW show: there it is unknown."""
    flanks = Counter(side for side, probability in told if probability is not None and side in FLANKS)
    wrong = {flank for flank, n in flanks.items() if n <= FEW * flanks.total()}
    return ["unknown" if p is not None and side in wrong else side for side, p in told]
