"""The U-Net and its baseline on the same crops: the figures of `pusa evaluate pattern`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pusa.pattern import data, ridge
from pusa.pattern.evaluate import Examined, examine, filtering, scores, unet_maps
from pusa.pattern.extract import PatternConfig, PatternExtractor

TUNING_CROPS = 120  # of the training archive, for the ridge filter


def compare(archives: Sequence[Path], tune: Path, config: PatternConfig, crops: int) -> dict[Path, dict[str, object]]:
    """Per archive: the lines of the U-Net and of the ridge filter (tuned on crops of `tune`) beside the truth, and the
    filter of usable patterns. Figures as text, those with an interval from 2,000 resamplings of the crops.
    """
    extractor = PatternExtractor(config)
    training = data.read(tune, config.input_size, 0, TUNING_CROPS, 0)
    sigmas, judged = ridge.tuned(training, config)
    result: dict[Path, dict[str, object]] = {}
    for archive in archives:
        examples = data.read(archive, config.input_size, 0, crops, 0)
        network = examine(unet_maps(extractor, examples), examples, extractor.config)
        filter_ = examine(ridge.ridge_maps(examples, config, sigmas), examples, judged)
        low, high = difference_interval(network, filter_)
        figures: dict[str, object] = {"crops": len(examples)}
        figures |= {f"U-Net {name}": value for name, value in scores(network.counts.sum(axis=0)).items()}
        figures |= {f"ridge filter {name}": value for name, value in scores(filter_.counts.sum(axis=0)).items()}
        figures["F1 above the ridge filter, 95 %"] = f"{low:.3f} to {high:.3f}"
        if extractor.quality is not None:
            judgement = filtering(extractor.quality, network, examples)
            figures |= {f"filter {name}": value for name, value in judgement.items()}
        result[archive] = figures
    return result


def difference_interval(one: Examined, other: Examined, samples: int = 2000) -> tuple[float, float]:
    """95 % interval of the difference of F1 between two methods on the same crops, drawn with replacement."""
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(samples):
        chosen = rng.integers(len(one.counts), size=len(one.counts))
        first, second = (scores(e.counts[chosen].sum(axis=0))["f1"] for e in (one, other))
        differences.append(first - second)
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)
