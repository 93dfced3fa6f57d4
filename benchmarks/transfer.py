"""Patterns learnt from one kind of rings, measured on another: the paper trained on Saimaa seals and read Ladoga seals.

    python benchmarks/transfer.py OUT [STEPS]

Draws archives of renderer A whose animals all have rings of one model (placed, reaction): 400 photos to train on, 60 of
other animals to measure on; trains a U-Net of 8 base channels on each for so many steps (1000); prints F1 of lines
(2 px) of both on both, at the best of five thresholds on its own training archive.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from pusa.pattern import data, extract
from pusa.pattern.evaluate import THRESHOLDS, line_counts, measure, scores, unet_maps
from pusa.pattern.extract import PatternConfig, PatternExtractor

MODELS = ("placed", "reaction")
PLAN = {"animals": [1, 8], "sequence_photos": [3, 12], "returning": 0.5, "fixed": 0.3, "places": 6}
SIZES = {"train": {"photos": 400, "sequences": 80, "individuals": 160, "seed": 11},
         "test": {"photos": 60, "sequences": 12, "individuals": 30, "seed": 12}}  # fmt: skip


def main(out: Path, steps: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    training = out / "training.yaml"
    training.write_text(f"steps: {steps}\n")
    for model in MODELS:
        for part, sizes in SIZES.items():
            settings = out / f"{model}-{part}.yaml"
            settings.write_text(yaml.safe_dump(PLAN | sizes | {"look": {"ring_models": [model]}}))
            pusa("synth", str(out / f"{model}-{part}"), "--config", str(settings))
        pusa("train", "pattern", "--archive", str(out / f"{model}-train"), "--out", str(out / f"{model}.safetensors"),
             "--config", str(training))  # fmt: skip
    table = Table("trained on", *(f"F1 on {model}" for model in MODELS))
    tests = {model: data.read(out / f"{model}-test", 512, 0, 200, 0) for model in MODELS}
    for trained in MODELS:
        extractor = calibrated(out / f"{trained}.safetensors", out / f"{trained}-train")
        table.add_row(trained, *(f"{measure(extractor, tests[model])['f1']:.3f}" for model in MODELS))
    Console().print(table)


def calibrated(weights: Path, archive: Path) -> PatternExtractor:
    """The network with the threshold that is best on 100 crops of its training archive."""
    extractor = PatternExtractor(PatternConfig(weights=str(weights)))
    examples = data.read(archive, extractor.config.input_size, 0, 100, 0)
    maps = list(unet_maps(extractor, examples))

    def f1(threshold: float) -> float:
        config = extractor.config.model_copy(update={"threshold": threshold})
        found = (extract.binary_mask(m, e.mask, config) for m, e in zip(maps, examples, strict=True))
        return scores(sum((line_counts(f, e.rings) for f, e in zip(found, examples, strict=True)), np.zeros(10)))["f1"]

    extractor.config = extractor.config.model_copy(update={"threshold": max(THRESHOLDS, key=f1)})
    return extractor


def pusa(*arguments: str) -> None:
    print("$ pusa", *arguments, flush=True)
    subprocess.run([Path(sys.executable).parent / "pusa", *arguments], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "1000")
