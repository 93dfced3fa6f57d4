"""Search over HTTP: `python benchmarks/serving_search.py GALLERY [--questions 20]`.

GALLERY: of many encounters, such as benchmarks/search.py leaves in FOLDER/gallery. Asks a `pusa serve` for enrolled
encounters that it was not asked about before (GET /v1/encounters/TOKEN), without verification, which is no part of a
search: the vector is read and compared with all others, and the candidates come back as JSON. Beside it /healthz, which
does nothing: what HTTP and Serve cost. p50 of the best of ROUNDS rounds; CPU of all processes of the server, a request.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import yaml
from servers import cpu, server

ROUNDS = 5
ADDRESS = "http://127.0.0.1:8803"


def configuration(gallery: str, data: str) -> dict:
    """As `pusa serve` makes it, without verification: no kind of points is compared, with one individual."""
    names = ("Web", "Detector", "Describer", "Identifier")
    args = {"gallery": gallery, "data": data, "access": "open", "verification": {"kinds": [], "shortlist": 1}}
    return {
        "http_options": {"host": "127.0.0.1", "port": int(ADDRESS.rpartition(":")[2])},
        "applications": [{
            "name": "pusa", "route_prefix": "/", "import_path": "serving.deployments:build", "args": args,
            "deployments": [{"name": name, "ray_actor_options": {"num_cpus": 0.1}} for name in names],
        }],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("--questions", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        config = Path(root) / "config.yaml"
        config.write_text(yaml.safe_dump(configuration(str(options.gallery.resolve()), f"{root}/data")))
        command = [str(Path(sys.executable).parent / "pusa"), "serve", "--config", str(config)]
        with server(command, ADDRESS, "/readyz") as process, httpx.Client(base_url=ADDRESS, timeout=60) as client:
            every = client.get("/v1/encounters?limit=10000").json()
            tokens = [every[i]["token"] for i in np.random.default_rng(0).permutation(len(every))]
            asked = [tokens[i * options.questions :][: options.questions] for i in range(ROUNDS + 1)]
            paths = {"search": [[f"/v1/encounters/{t}" for t in some] for some in asked],
                     "nothing": [["/healthz"] * options.questions] * (ROUNDS + 1)}  # fmt: skip
            for name, rounds in paths.items():
                best = (float("inf"), 0.0)
                for number, some in enumerate(rounds):
                    seconds, began = [], cpu(process.pid)
                    for path in some:
                        start = time.perf_counter()
                        answer = client.get(path)
                        seconds.append(time.perf_counter() - start)
                        assert answer.status_code == 200, answer.text
                        assert name == "nothing" or answer.json()["candidates"], answer.text
                    if number:  # the first warms up
                        best = min(best, (statistics.median(seconds), (cpu(process.pid) - began) / len(some)))
                print(f"{name}: p50 {1000 * best[0]:.1f} ms, {1000 * best[1]:.1f} ms of CPU; {len(every)} encounters")


if __name__ == "__main__":
    main()
