"""The endpoint beside a bare uvicorn with the same stages, and beside the batch pipeline on the same photos.

    python benchmarks/serving.py ARCHIVE GALLERY [--photos 40] [--soak 0]

ARCHIVE: a folder of photos; GALLERY: one made with the starter weights. Prints p50 and p95 of one client (one photo a
request) and the throughput of 16 clients as a share of `pusa process`'s. The search alone: serving_search.py.
--soak MINUTES: in place of this, load with bad input mixed in; memory of all processes before and after, and wrong
answers: those that are not the bare server's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from servers import cpu, memory, server

ALONE = 8  # photos of the one client
BAD = [  # name, content, and the status that it deserves; 200 says in the photo's row why it was not read
    ("broken.jpg", b"\xff\xd8 no more", 200),
    ("empty.png", b"", 200),
    ("a.txt", b"x", 422),
    ("a.zip", b"PK\x03\x04 no more", 422),
    ("../../a.tif", bytes(1 << 20), 200),
]
PAGES = ("/", "/review", "/individuals", "/journal", "/v1/encounters", "/v1/jobs")
BARE = """
import sys, uvicorn, pyarrow as pa
from fastapi import FastAPI, UploadFile
from pusa import records
from serving.settings import ServingConfig
from pusa.gallery.index import ALL, Query
from serving.workers import Describing, Detecting, Identifying
config = ServingConfig(gallery=sys.argv[1], data=sys.argv[2], threads=1)
detect, describe, identify = Detecting(config), Describing(config), Identifying(config)
app = FastAPI()
@app.post("/v1/identify")
def answer(photos: list[UploadFile]):
    rows = [{"photo_id": str(i), "path": p.filename, "sequence_id": "s", "status": "new", "instances": []}
            for i, p in enumerate(photos)]
    tables = [pa.Table.from_pylist([row], schema=records.PHOTOS) for row in rows]
    done = pa.concat_tables(describe(detect([(t, p.file.read()) for t, p in zip(tables, photos)])))
    found = identify.encode(done)
    rows = found.encounters.filter(found.encounters["fisher"].is_valid())
    fisher = rows["fisher"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    queries = [Query(("r", e), f, n, found.crops[e]) for e, f, n in zip(rows["encounter_id"].to_pylist(),
               fisher.reshape(len(rows), -1), rows["n_patches"].to_pylist())] if len(rows) else []
    return {"candidates": [[{k: c[k] for k in ("individual", "probability")} for c in a.candidates]
                           for a in (identify([(q, ALL) for q in queries]) if queries else [])]}
uvicorn.run(app, port=int(sys.argv[3]), log_level="error")
"""


def ask(client: httpx.Client, photo: Path) -> dict[str, Any]:
    """One photo, until its answer is there."""
    files = [("photos", (photo.name, photo.read_bytes()))]
    answer = client.post("/v1/identify", files=files)
    while answer.status_code == 202 or answer.json().get("state") in ("queued", "running"):
        time.sleep(float(answer.headers.get("retry-after", 2)))
        answer = client.get(answer.json()["link"])
    assert answer.json().get("state", "done") == "done", answer.text
    return answer.json()


def one_client(address: str, photos: list[Path]) -> list[float]:
    """Seconds of each request of one photo, after two that warm up."""
    seconds = []
    with httpx.Client(base_url=address, timeout=600) as client:
        for photo in [*photos[:2], *photos]:
            start = time.perf_counter()
            ask(client, photo)
            seconds.append(time.perf_counter() - start)
    return seconds[2:]


def many_clients(address: str, photos: list[Path], clients: int = 16) -> float:
    """Photos a second."""
    start = time.perf_counter()
    with httpx.Client(base_url=address, timeout=600) as client, ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda photo: ask(client, photo), photos))
    return len(photos) / (time.perf_counter() - start)


def batch(photos: list[Path], gallery: str, folder: Path) -> tuple[float, float]:
    """Photos a second of `pusa process` and `pusa identify`, each photo a sequence, once they run: from the first block
    that is done; and CPU seconds of each. The start of Ray and of its actors, and grouping, are left out."""
    for number, photo in enumerate(photos):
        (folder / f"{number}").mkdir(parents=True)
        shutil.copy(photo, folder / f"{number}")
    from pipelines import cluster
    from pipelines.identify import identify
    from pipelines.process import ProcessConfig, Progress, begin, process
    from pusa.config import load_config
    from pusa.gallery.verify import VerifyConfig
    from pusa.records import Run

    out, config = str(folder.parent / "run"), load_config(ProcessConfig, overrides={"photos_per_block": 4})
    steps: list[tuple[int, float, float]] = []

    def report(progress: Progress) -> None:
        if progress.stage == "photos" and progress.done:
            steps.append((progress.done, time.perf_counter(), cpu(os.getpid())))

    with cluster.connect("local"):
        begin(str(folder), out, config)
        process(str(folder), out, config, report=report)
    first, last = np.array(steps[0]), np.array(steps[-1])
    _, wall, spent = (last - first) / (last - first)[0]  # a photo
    start, before = time.perf_counter(), time.process_time()
    identify(Run(out), gallery, 5, VerifyConfig())
    wall += (time.perf_counter() - start) / len(photos)
    return 1 / wall, spent + (time.process_time() - before) / len(photos)


def told(answer: dict[str, Any]) -> list[list[tuple[str, float]]]:
    """Individuals and probabilities of each encounter that has candidates, of the bare server or of ours."""
    encounters = answer["result"]["encounters"] if "result" in answer else []
    found = answer.get("candidates", [e["candidates"] for e in encounters])
    return sorted([(c["individual"], round(c["probability"], 6)) for c in some] for some in found if some)


def soak(address: str, expected: dict[Path, list], minutes: float, process: subprocess.Popen) -> None:
    """Good and bad requests and pages, of 4 clients; the good ones must answer as the bare server did, and the bad ones
    with the status that they deserve. Memory: medians of the minutes from a fifth of the time (caches are full) to two
    fifths, and of the last fifth."""
    began = time.monotonic()
    end = began + 60 * minutes
    counts = {"good": 0, "bad": 0, "page": 0, "busy": 0, "wrong": 0, "500": 0}
    lock = threading.Lock()
    photos = list(expected)

    def asked(client: httpx.Client, name: str, content: bytes) -> httpx.Response:
        answer = client.post("/v1/identify", files=[("photos", (name, content))])
        while answer.status_code == 202 or (answer.is_success and answer.json()["state"] in ("queued", "running")):
            time.sleep(1)
            answer = client.get(answer.json()["link"])
        return answer

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        with httpx.Client(base_url=address, timeout=600) as client:
            while time.monotonic() < end:
                kind = rng.choice(["good", "bad", "page"], p=[0.6, 0.3, 0.1])
                if kind == "good":
                    photo = photos[rng.integers(len(photos))]
                    answer = asked(client, photo.name, photo.read_bytes())
                    right = answer.status_code == 200 and told(answer.json()) == expected[photo]
                elif kind == "bad":
                    name, content, status = BAD[rng.integers(len(BAD))]
                    answer = asked(client, name, content)
                    right = answer.status_code == status
                    if right and status == 200:
                        right = answer.json()["result"]["photos"][0]["status"] == "error"
                else:
                    answer = client.get(PAGES[rng.integers(len(PAGES))])
                    right = answer.status_code == 200
                with lock:
                    counts[kind] += 1
                    counts["busy"] += answer.status_code == 503
                    counts["500"] += answer.status_code in (500, 502, 504)
                    counts["wrong"] += not right

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    samples: list[tuple[float, float]] = []
    while time.monotonic() < end:
        samples.append(((time.monotonic() - began) / (60 * minutes), memory(process.pid)))
        time.sleep(5)
    for t in threads:
        t.join()
    before = statistics.median(m for at, m in samples if 0.2 <= at < 0.4)
    after = statistics.median(m for at, m in samples if at >= 0.8)
    print(f"soak, {minutes:g} min: {counts}; memory {before:.0f} -> {after:.0f} MB ({after / before - 1:+.1%})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("gallery")
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--soak", type=float, default=0, help="minutes")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.filterwarnings("ignore", message="lancedb fork support")
    every = sorted(p for p in options.archive.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    photos = every[:: max(1, len(every) // options.photos)][: options.photos]
    with tempfile.TemporaryDirectory() as root:
        bare = [sys.executable, "-c", BARE, options.gallery, f"{root}/bare", "8801"]
        pusa = str(Path(sys.executable).parent / "pusa")
        ours = [pusa, "serve", "--gallery", options.gallery, "--data", f"{root}/data", "--port", "8802"]
        with server(bare, "http://127.0.0.1:8801", "/docs"):
            if options.soak:
                with httpx.Client(base_url="http://127.0.0.1:8801", timeout=600) as client:
                    expected = {photo: told(ask(client, photo)) for photo in photos}
            else:
                alone = one_client("http://127.0.0.1:8801", photos[:ALONE])
        with server(ours, "http://127.0.0.1:8802", "/readyz") as process:
            if options.soak:
                soak("http://127.0.0.1:8802", expected, options.soak, process)
                return
            served = one_client("http://127.0.0.1:8802", photos[:ALONE])
            began = cpu(process.pid)
            rate = many_clients("http://127.0.0.1:8802", photos)
            spent = (cpu(process.pid) - began) / len(photos)
        per_second, spent_too = batch(photos, options.gallery, Path(root) / "archive")
    for name, seconds in (("bare uvicorn", alone), ("pusa serve", served)):
        print(f"{name}, one client: p50 {statistics.median(seconds):.2f} s, p95 {np.quantile(seconds, 0.95):.2f} s")
    print(f"p50 as a multiple of the bare server's: {statistics.median(served) / statistics.median(alone):.2f}")
    print(f"16 clients: {rate:.2f} photos/s, {spent:.2f} s of CPU each; pusa process and identify: {per_second:.2f}, "
          f"{spent_too:.2f} s; share {rate / per_second:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
