"""A catalogue of many encounters: how long proposals take, and how much memory.

    python benchmarks/catalogue.py RUN [ENCOUNTERS]

RUN is a processed archive. From its Fisher vectors animals are made: each is the mean of two real encounters, and each
of its encounters adds a third one by a share, so that an animal's encounters are near neighbours, some more, some less,
as real ones are. Vectors are made block by block and never kept, as a gallery on disk would give them; what that
costs is not counted. Then everything that `pusa catalogue build --no-verify` does with them: codes, nearest neighbours,
weights, clusters, and the first question. Prints seconds of each step and the peak memory of the process.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Iterator

import numpy as np

from pusa.catalogue import pairs as search
from pusa.catalogue.calibration import Calibrations, frequency
from pusa.catalogue.clusters import Clusters
from pusa.catalogue.evidence import Evidence
from pusa.catalogue.pairs import ProposeConfig
from pusa.catalogue.review import Review, ReviewConfig
from pusa.partitions import pairs as agreement
from pusa.records import Run

EACH = 5  # encounters of an animal
BLOCK = 256


class Archive:
    """Encounters by their number; the same number gives the same vector."""

    def __init__(self, real: np.ndarray, n: int) -> None:
        rng = np.random.default_rng(0)
        self.real = real / np.linalg.norm(real, axis=1, keepdims=True)
        self.animal = rng.permutation(n) // EACH
        self.of_animal = rng.integers(len(real), size=(n // EACH + 1, 2))
        self.shift = rng.integers(real.shape[1], size=n // EACH + 1)  # or all animals would be made of the same few
        self.other, self.turn = rng.integers(len(real), size=n), rng.integers(real.shape[1], size=n)
        self.share = rng.uniform(0.5, 2.0, n)
        self.seconds = 0.0

    def blocks(self, chosen: np.ndarray) -> Iterator[np.ndarray]:
        for begin in range(0, len(chosen), BLOCK):
            began = time.perf_counter()
            rows = np.empty((len(chosen[begin : begin + BLOCK]), self.real.shape[1]), np.float32)
            for row, i in zip(rows, chosen[begin : begin + BLOCK], strict=True):
                a, b = self.of_animal[self.animal[i]]
                row[:] = np.roll(self.real[a] + self.real[b], self.shift[self.animal[i]])
                row += self.share[i] * np.roll(self.real[self.other[i]], self.turn[i])
            self.seconds += time.perf_counter() - began
            yield rows


def main(folder: str, n: int = 100_000) -> None:
    fisher = Run(folder).read("encounters", ["fisher"])["fisher"].drop_null()
    real = np.stack([f.values.to_numpy(zero_copy_only=False) for f in fisher]).astype(np.float32)
    archive, config, steps = Archive(real, n), ProposeConfig(verification=None), []
    began, made = time.perf_counter(), 0.0

    def step(name: str) -> None:
        nonlocal began, made
        steps.append(time.perf_counter() - began - (archive.seconds - made))
        print(f"{name}: {steps[-1]:.1f} s", flush=True)
        began, made = time.perf_counter(), archive.seconds

    chosen = np.random.default_rng(1).choice(n, min(n, config.sample), replace=False)
    axes = search.projection(np.concatenate([b.astype(np.float16) for b in archive.blocks(chosen)]), config.dimensions)
    step("axes")
    codes = search.codes(archive.blocks(np.arange(n)), axes)
    step("codes")
    found = search.propose(codes, config)
    step(f"{len(found.at):,} pairs")
    calibration = Calibrations.starter().distances
    weights = calibration.weights(found.signs)
    share = frequency(weights, n * (n - 1) // 2)
    clusters = Clusters(Evidence(n, found.at, weights + math.log(share / (1 - share))))
    clusters.agglomerate()
    step("clusters")
    question = Review(clusters, ReviewConfig()).question()
    step("alternatives and first question")
    print(f"total {sum(steps):.1f} s; making the vectors took {archive.seconds:.1f} s more")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    true = archive.animal[found.at[:, 0]] == archive.animal[found.at[:, 1]]
    print(f"{n:,} encounters of {n // EACH:,} animals: {true.sum() / (n * (EACH - 1) / 2):.3f} of all pairs of one "
          f"animal proposed; {len(clusters.members):,} clusters, adjusted Rand "
          f"{agreement(archive.animal, clusters.label).adjusted_rand_index:.3f}; first {question}")  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], *(int(x) for x in sys.argv[2:3]))
