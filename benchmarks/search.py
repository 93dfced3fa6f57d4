"""Search among many encounters: `python benchmarks/search.py FOLDER RUN... [--encounters 100000]`.

Writes a gallery of simulated encounters to FOLDER (128 KB each) and asks it. An animal is made of five instances of the
runs; an encounter of it mixes one to three of these with one to three of anybody's, weighed by chance, as their patches
would be mixed: so each has near neighbours of its own and of other animals. Queries are further encounters of enrolled
animals. Recall@5: of the five encounters that are nearest by the vectors themselves, the share that is found.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import torch
from timing import best_of

from pusa import records
from pusa.fisher.codebook import Codebook
from pusa.fisher.encode import fisher_vectors
from pusa.gallery import journal
from pusa.gallery.codes import codes
from pusa.gallery.codes import distances as code_distances
from pusa.gallery.geometry import Features, Points
from pusa.gallery.index import SHORTLIST, Index, Query
from pusa.gallery.search import distances, least
from pusa.gallery.store import Gallery
from pusa.records import Run

QUERIES = 100
EACH = 4  # encounters of an animal
BATCH = 2000  # enrolled at once
MIXED = 16  # made at once: 4 MB
ROUNDS = 5


class Simulation:
    """Encounters that mix real instances."""

    def __init__(self, runs: list[str], codebook: Codebook) -> None:
        self.length = codebook.length
        parts = []
        for run in runs:
            for batch in Run(run).batches("photos", ["instances.list.element.embeddings"]):
                x = [i["embeddings"] for nested in records.instances(batch) for i in nested]
                some = [e.reshape(-1, len(codebook.center)) for e in x if e is not None and len(e)]
                v = torch.from_numpy(fisher_vectors(codebook, some))
                # Undoes the root: what is left adds up as the patches of several instances do.
                parts.append(v * v.abs() * torch.tensor([float(len(e)) for e in some])[:, None])
        self.instances = torch.cat(parts)

    def encounters(self, animals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Fisher vectors (n, L) float16 of encounters of `animals` (n,), by number."""
        result = torch.empty(len(animals), self.length, dtype=torch.float16)
        x, some, size = (torch.empty(MIXED, self.length) for _ in range(3))  # made once: new memory is slow to come by
        for start in range(0, len(animals), MIXED):
            mine = animals[start : start + MIXED]
            mine = np.pad(mine, (0, MIXED - len(mine)))
            looks = np.array([np.random.default_rng(int(a)).integers(len(self.instances), size=5) for a in mine])
            own = np.take_along_axis(looks, rng.permuted(np.tile(np.arange(5), (MIXED, 1)), axis=1)[:, :3], 1)
            every = torch.from_numpy(np.concatenate([own, rng.integers(len(self.instances), size=own.shape)], 1))
            shares = rng.uniform(0.3, 1, every.shape)
            shares[:, [1, 2, 4, 5]] *= rng.integers(0, 2, (MIXED, 4))
            x.zero_()
            for k in range(every.shape[1]):
                torch.index_select(self.instances, 0, every[:, k], out=some)
                x.addcmul_(some, torch.from_numpy(shares[:, k : k + 1]).float())
            torch.abs(x, out=size)
            size /= size.sum(1, keepdim=True)
            result[start : start + MIXED] = torch.copysign(size.sqrt_(), x, out=some)[: len(result) - start]
        return result.numpy()


def enrol(gallery: Gallery, made: Simulation, count: int, queries: np.ndarray) -> np.ndarray:
    """Enrols `count` encounters, and returns how near each is to each of the queries (n, count), in bfloat16."""
    rng = np.random.default_rng(1)
    asked = torch.from_numpy(queries.astype(np.float32)).bfloat16()
    near = np.empty((len(queries), count), np.float32)
    for start in range(0, count, BATCH):
        numbers = np.arange(start, min(start + BATCH, count))
        x = made.encounters(numbers // EACH, rng)
        near[:, numbers] = (asked @ torch.from_numpy(x).bfloat16().T).float().numpy()
        columns = {
            "run": ["simulated"] * len(numbers),
            "encounter_id": [f"{i:07}" for i in numbers],
            "fisher": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1]),
        }
        _, rows = gallery._checked(pa.table(columns))
        gallery.encounters.add(rows)  # without looking whether they are there: three times as fast
    names = {("simulated", f"{i:07}"): f"{i // EACH:07}" for i in range(count)}
    gallery._append(journal.naming(names, []))
    return near


def enrol_with_crops(gallery: Gallery, fisher: np.ndarray) -> tuple[float, float]:
    """Encounters a second of wall time and of CPU, with eight crops each of 300 key points and 100 patches, by chance:
    bytes that cannot be compressed."""
    rng = np.random.default_rng(4)

    def crop() -> Features:
        marks = Points(rng.random((300, 2), np.float32), rng.integers(0, 256, (300, 128), np.uint8))
        patches = Points(rng.random((100, 2), np.float32), rng.random((100, 64), np.float32).astype(np.float16))
        return Features(marks, 300.0, picture=rng.bytes(15_000), patches=patches)

    ids = [f"crops {i}" for i in range(len(fisher))]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(fisher.ravel()), fisher.shape[1])
    rows = pa.table({"run": ["simulated"] * len(ids), "encounter_id": ids, "individual": ids, "fisher": vectors})
    crops = {i: {str(k): crop() for k in range(8)} for i in ids}
    began, began_cpu = time.perf_counter(), time.process_time()
    gallery.enroll(rows, crops)
    return len(ids) / (time.perf_counter() - began), len(ids) / (time.process_time() - began_cpu)


def nearest_five(index: Index, queries: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of the five nearest encounters by their vectors, and their cosines (n, 5)."""
    short = [least(-row, 60) for row in near]
    exact = [distances(q[None], index.snapshot.fisher(p))[0] for q, p in zip(queries, short, strict=True)]
    first = [least(e, 5) for e in exact]
    pairs = list(zip(short, exact, first, strict=True))
    return np.stack([p[f] for p, _, f in pairs]), 1 - np.stack([e[f] for _, e, f in pairs])


def recall(five: np.ndarray, found: list[np.ndarray]) -> float:
    return float(np.mean([len(set(f) & set(places)) / 5 for f, places in zip(five.tolist(), found, strict=True)]))


def main(folder: Path, runs: list[str], count: int) -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    if folder.exists():
        shutil.rmtree(folder)
    codebook = Codebook.load("starter/codebook")
    made = Simulation(runs, codebook)
    animals = np.random.default_rng(2).permutation(-(-count // EACH))[:QUERIES]
    queries = made.encounters(animals, np.random.default_rng(3))
    gallery = Gallery.create(str(folder / "gallery"), codebook)
    began = time.perf_counter()
    near = enrol(gallery, made, count, queries)
    print(
        f"{len(made.instances)} instances; {count} encounters made and enrolled in {time.perf_counter() - began:.0f} s"
    )
    del made
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    index = Index(gallery)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"opened in {seconds:.1f} s; {(after - before) / 1024:.0f} MB more at the peak than before")
    five, cosine = nearest_five(index, queries, near)
    print(
        "cosine of the nearest, fifth, 40th:",
        *(f"{c:.3f}" for c in (*cosine.mean(0)[[0, 4]], -np.sort(-near, 1)[:, 39].mean())),
    )
    everybody = np.ones((1, count), bool)
    found = [least(index.vectors.costs(q[None], everybody)[1][0], 5) for q in queries]
    asked = [Query(("q", str(i)), q) for i, q in enumerate(queries)]
    one = codes(queries[:1])
    turn = iter(range(10**9))
    jobs = {
        "top-5 of a query": lambda: index.ask([asked[next(turn) % 7]]),
        "  of this: its code": lambda: codes(queries[:1]),
        "  distances by codes": lambda: code_distances(one, index.vectors.codes),
        f"  {SHORTLIST} vectors read": lambda: index.snapshot.fisher(
            five[0].repeat(SHORTLIST // 5) + np.arange(SHORTLIST)
        ),
    }
    wall, cpu = best_of(jobs, ROUNDS)
    for name in jobs:
        print(f"{name:42} {1000 * wall[name]:6.1f} ms, {1000 * cpu[name]:6.1f} of CPU")
    print(f"recall@5 {recall(five, found):.4f}", flush=True)
    rates = [enrol_with_crops(gallery, np.repeat(queries, 3, axis=0)[:256]) for _ in range(3)]
    best = [max(rate[k] for rate in rates) for k in (0, 1)]
    print(f"enrolled with crops: {best[0]:.0f} encounters a second, {best[1]:.0f} a second of CPU; best of 3")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--encounters", type=int, default=100_000)
    given = parser.parse_args()
    main(given.folder, given.runs, given.encounters)
