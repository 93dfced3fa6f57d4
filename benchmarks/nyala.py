"""Re-identification on real photographs: NyalaData, by photo and by sighting, on a development split by identity.

    python benchmarks/nyala.py FOLDER OUT [odd]

FOLDER holds images/<identity>/<sighting>_<side>.jpg and annotations.json (COCO with `identity`, `sighting` and
`side`). A folder of it is an identity, so sequences come from a CSV of sightings. Only identities with an even number
are used: nothing was fitted on them; `odd` takes the others, on which settings are chosen. Masks come from the
annotations; pattern, embedding and codebook are the starter's.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path


def main(folder: Path, out: Path, rest: int) -> None:
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
    run, split_file = out / "run", str(out / "split.json")
    pusa(
        "process", str(archive), "--out", str(run), "--instances", split_file, "--sequences", str(out / "sightings.csv")
    )
    pusa("evaluate", "sightings", str(run), "--truth", split_file)


def pusa(*arguments: str) -> None:
    print("$ pusa", *arguments, flush=True)
    subprocess.run([Path(sys.executable).parent / "pusa", *arguments], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3:] == ["odd"]))
