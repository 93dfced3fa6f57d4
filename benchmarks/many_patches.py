"""A run that holds nothing but patch embeddings, as many as wanted: to measure the fit of a codebook.

    python benchmarks/many_patches.py OUT 5000000
    python benchmarks/memory.py pusa codebook fit OUT --out OUT/codebook.safetensors --iterations 2

Embeddings are drawn from 2,000 clusters in 512 dimensions, 100 a photo, 64 photos a file; 1 KB each.
"""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa

from pusa import records
from pusa.records import Run

PATCHES, PHOTOS, CLUSTERS = 100, 64, 2000


def main(out: str, patches: int) -> None:
    run = Run(out)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, 512), np.float32)
    photos = -(-patches // PATCHES)
    for first in range(0, photos, PHOTOS):
        rows = []
        for i in range(first, min(first + PHOTOS, photos)):
            x = centres[rng.integers(CLUSTERS, size=PATCHES)] + 0.7 * rng.standard_normal((PATCHES, 512), np.float32)
            x /= np.linalg.norm(x, axis=1, keepdims=True)
            instance = records.new_instance(f"{i:08d}#0", embeddings=x.astype(np.float16).ravel())
            rows.append({f.name: None for f in records.PHOTOS} | {"photo_id": f"{i:08d}", "instances": [instance]})
        run.write("photos", pa.Table.from_pylist(rows, records.PHOTOS), f"{first:08d}")
    run.write_manifest({"state": "finished", "weights": {"embedding": "0" * 64}, "config": {}})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
