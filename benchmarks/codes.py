"""Compact codes side by side: `python benchmarks/codes.py FOLDER RUN... [--encounters 8000]`.

Simulated encounters as in benchmarks/search.py, all in memory (128 KB each). Of each code: bytes an encounter, the time
of a query that lists the 40 nearest, and of the five encounters that are nearest by the vectors themselves the share
among the first 10, 20 and 40. PCA is fitted to 6,000 of the encounters themselves, at best to what it will be asked.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import faiss
import lancedb
import numpy as np
import pyarrow as pa
import torch
from search import EACH, QUERIES, Simulation
from timing import best_of

from pusa.fisher.codebook import Codebook
from pusa.gallery.codes import BYTES, codes
from pusa.gallery.codes import distances as code_distances
from pusa.gallery.search import distances, least

LISTED = 40
FOLDED = 4096  # numbers that PCA and RaBitQ start from: the vector's, with signs by chance, in sums of 16


def folded(vectors: np.ndarray) -> np.ndarray:
    signs = 2 * np.random.default_rng(0).integers(0, 2, vectors.shape[1]).astype(np.float32) - 1
    parts = np.array_split(vectors, max(1, len(vectors) // 500))
    return np.concatenate([(p * signs).reshape(len(p), -1, FOLDED).sum(axis=1) for p in parts])


def main(folder: Path, runs: list[str], count: int) -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    made = Simulation(runs, Codebook.load("starter/codebook"))
    known = made.encounters(np.arange(count) // EACH, np.random.default_rng(1))
    animals = np.random.default_rng(2).permutation(-(-count // EACH))[:QUERIES]
    asked = made.encounters(animals, np.random.default_rng(3))
    del made
    five = [least(row, 5) for row in distances(asked, known)]
    mine, theirs = codes(asked), codes(known)
    short, long = folded(asked), folded(known)
    _, axes = torch.linalg.eigh(torch.from_numpy(long[:6000].T @ long[:6000]))
    jobs, sizes = {}, {}

    def add(name: str, size: int, job) -> None:
        jobs[name], sizes[name] = job, size

    def flat(index, vectors: np.ndarray, queries: np.ndarray):
        index.train(vectors)
        index.add(vectors)
        return lambda i: index.search(queries[i : i + 1], LISTED)[1][0]

    add("8,192 signs, faiss (the product)", BYTES, lambda i: least(code_distances(mine[i : i + 1], theirs)[0], LISTED))
    words, query_words = theirs.view(np.uint64), mine.view(np.uint64)

    def by_numpy(i: int) -> np.ndarray:
        return least(np.bitwise_count(words ^ query_words[i]).sum(axis=1, dtype=np.uint32).astype(float), LISTED)

    add("the same, NumPy", BYTES, by_numpy)
    shutil.rmtree(folder, ignore_errors=True)
    rows = pa.table({"n": np.arange(count), "code": pa.FixedSizeListArray.from_arrays(pa.array(theirs.ravel()), BYTES)})
    table = lancedb.connect(folder).create_table("codes", rows)
    add("the same, LanceDB", BYTES, lambda i: table.search(mine[i], vector_column_name="code", query_type="vector")
        .distance_type("hamming").limit(LISTED).select(["n", "_distance"]).to_arrow()["n"].to_numpy())  # fmt: skip
    half, query_half = np.ascontiguousarray(theirs[:, : BYTES // 2]), np.ascontiguousarray(mine[:, : BYTES // 2])
    binary = faiss.IndexBinaryFlat(4 * BYTES)
    binary.add(half)
    add("4,096 of them, faiss", BYTES // 2, lambda i: binary.search(query_half[i : i + 1], LISTED)[1][0])
    product = faiss.METRIC_INNER_PRODUCT
    for size in (512, 1024):
        x, q = (y @ axes.flip(1)[:, :size].numpy() for y in (long, short))
        x, q = (y / np.linalg.norm(y, axis=1, keepdims=True) for y in (x, q))
        eight = faiss.IndexScalarQuantizer(size, faiss.ScalarQuantizer.QT_8bit, product)
        add(f"PCA to {size} numbers of 8 bits, faiss", size, flat(eight, x, q))
        if size == 512:
            graph = faiss.IndexHNSWSQ(size, faiss.ScalarQuantizer.QT_8bit, 32, product)
            graph.hnsw.efSearch = 200
            add("the same in a graph (HNSW), faiss", size + 256, flat(graph, x, q))
    bits = faiss.IndexRaBitQ(FOLDED, product)
    bits.qb = 4
    add("RaBitQ of 4,096 numbers, faiss", bits.code_size, flat(bits, long, short))
    found = {name: [job(i) for i in range(QUERIES)] for name, job in jobs.items()}
    wall, cpu = best_of({name: lambda job=job: job(0) for name, job in jobs.items()})
    print(f"{count} encounters, {QUERIES} queries")
    for name in jobs:
        pairs = list(zip(five, found[name], strict=True))
        shares = [np.mean([len(set(f) & set(g[:k])) / 5 for f, g in pairs]) for k in (10, 20, LISTED)]
        told = f"{1000 * wall[name]:7.2f} ms, {1000 * cpu[name]:6.2f} of CPU; of the five"
        print(f"{name:36} {sizes[name]:5} bytes {told}", *(f"{share:.3f}" for share in shares))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--encounters", type=int, default=8000)
    given = parser.parse_args()
    main(given.folder, given.runs, given.encounters)
