"""Re-identification on real photographs: NyalaData, by photo and by sighting, on a development split by identity.

    python benchmarks/nyala.py FOLDER OUT [odd | learn]

FOLDER holds images/<identity>/<sighting>_<side>.jpg and annotations.json (COCO with `identity`, `sighting` and
`side`). A folder of it is an identity, so sequences come from a CSV of sightings. Only identities with an even number
are used: nothing was fitted on them; `odd` takes the others, on which settings are chosen. Masks come from the
annotations; pattern, embedding and codebook are the starter's, and so is the network of key points of any pattern,
starter/marks. `learn`: both networks and the codebook learn from the odd identities first, as docs/own-animals.md says.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path


def main(folder: Path, out: Path, how: str) -> None:
    if how != "learn":
        process(prepare(folder, out, 1 if how == "odd" else 0), out / "run")
        evaluate(out, "starter/marks")
        return
    odd, even = (prepare(folder, out / name, rest) for name, rest in (("odd", 1), ("even", 0)))
    process(odd, odd / "run", codebook="null")
    network, codebook = out / "embedding.safetensors", out / "codebook.safetensors"
    marks = out / "marks.safetensors"
    named = "--named", f"{odd / 'run'}:{odd / 'split.json'}", "--workers", 2
    pusa("train", "embedding", *named, "--out", network)
    pusa("train", "marks", *named, "--start", "starter/marks", "--out", marks)
    process(odd, odd / "run2", "--from", odd / "run", embedding=network, codebook="null")
    pusa("codebook", "fit", odd / "run2", "--out", codebook, "--dimensions", 64)
    process(even, even / "run", embedding=network, codebook=codebook)
    evaluate(even, marks)


def evaluate(half: Path, marks: Path | str) -> None:
    """Key points as these weights describe them: the default's have learnt rings and where they lie on a seal."""
    settings = half / "marks.json"  # which is YAML, too
    settings.write_text(json.dumps({"geometry": {"marks": str(marks)}}))
    pusa("evaluate", "sightings", half / "run", "--truth", half / "split.json", "--config", settings)


def prepare(folder: Path, out: Path, rest: int) -> Path:
    """Photos, annotations and sightings of the identities whose number leaves this rest, divided by two, in `out`."""
    coco = json.loads((folder / "annotations.json").read_text())
    images = [image for image in coco["images"] if int(image["identity"]) % 2 == rest]
    archive = out / "photos"
    for image in images:
        link = archive / image["file_name"]
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to((folder / "images" / image["file_name"]).resolve())
    ids = {image["id"] for image in images}
    split = coco | {"images": images, "annotations": [a for a in coco["annotations"] if a["image_id"] in ids]}
    (out / "split.json").write_text(json.dumps(split))
    with (out / "sightings.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "sequence_id"])
        writer.writerows((image["file_name"], f"sighting {image['sighting']}") for image in images)
    return out


def process(half: Path, run: Path, *options: object, embedding: Path | None = None, codebook: Path | str = "") -> None:
    """A run of what `prepare` made, with the starter's weights or these; codebook "null": none yet."""
    settings: dict[str, dict[str, str | None]] = {}
    if embedding:
        settings["embedding"] = {"weights": str(embedding)}
    if codebook:
        settings["encounters"] = {"codebook": None if codebook == "null" else str(codebook)}
    config = run.with_suffix(".json")  # which is YAML, too
    config.write_text(json.dumps(settings))
    pusa("process", half / "photos", "--out", run, "--instances", half / "split.json", "--sequences",
         half / "sightings.csv", "--config", config, *options)  # fmt: skip


def pusa(*arguments: object) -> None:
    print("$ pusa", *arguments, flush=True)
    subprocess.run([str(Path(sys.executable).parent / "pusa"), *map(str, arguments)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), "".join(sys.argv[3:]))
