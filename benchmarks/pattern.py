"""Speed of the pattern extraction, as ratios in one run: bfloat16 against float32, morphology against the network.

    python benchmarks/pattern.py ARCHIVE

Crops of a synthetic ARCHIVE with true masks, at 512 px, by the starter weights, one crop a batch. Best of 5 rounds with
the CPU time beside it; float32 and bfloat16 take turns. The F1 of lines shows what bfloat16 costs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from timing import best_of

from pusa.pattern import data, extract
from pusa.pattern.evaluate import measure
from pusa.pattern.extract import PatternConfig, PatternExtractor

CROPS = 24
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main(archive: Path) -> None:
    extractors = {name: extractor(dtype) for name, dtype in TYPES.items()}
    config = extractors["float32"].config
    examples = data.read(archive, config.input_size, 0, 200, 0)
    inputs = [e.network_input(config) for e in examples[:CROPS]]
    maps = extractors["float32"].probabilities(inputs)
    masks = [e.mask for e in examples[:CROPS]]

    def morphology() -> None:
        for p, mask in zip(maps, masks, strict=True):
            pattern = extract.binary_mask(p, mask, config)
            extract.normalise_thickness(pattern, config)

    jobs: dict[str, Callable[[], object]] = {
        name: lambda e=e: e.probabilities(inputs) for name, e in extractors.items()
    }
    jobs["morphology"] = morphology
    wall, cpu = best_of(jobs)
    for name in jobs:
        print(f"{name:10} {CROPS / wall[name]:6.1f} crops/s wall, {1000 * cpu[name] / CROPS:6.1f} ms of CPU a crop")
    print(f"bfloat16 is {wall['float32'] / wall['bfloat16']:.2f} times as fast as float32")
    print(f"morphology takes {wall['morphology'] / wall['float32']:.3f} of the network's time in float32, "
          f"{wall['morphology'] / wall['bfloat16']:.3f} in bfloat16")  # fmt: skip
    f1 = {name: measure(e, examples)["f1"] for name, e in extractors.items()}
    print(f"F1 of {len(examples)} crops: float32 {f1['float32']:.4f}, bfloat16 {f1['bfloat16']:.4f}")


def extractor(dtype: torch.dtype) -> PatternExtractor:
    made = PatternExtractor(PatternConfig(device="cpu", batch=1))
    made.dtype, made.network = dtype, made.network.to(dtype)
    return made


if __name__ == "__main__":
    main(Path(sys.argv[1]))
