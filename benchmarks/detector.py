"""The detector fine-tuned on real photographs: 100 of NyalaData to learn from, 50 of other identities to measure on.

    python benchmarks/detector.py FOLDER OUT [MINUTES]

FOLDER holds images/<identity>/... and annotations.json, COCO with `identity`. It is trained on identities with an odd
number, begun from the starter weights, and measured on identities with an even number, before and after. The masks of
NyalaData are machine-made, some cover a second animal: the figures say how well these masks are reproduced.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pusa.segmentation.train import spread


def main(folder: Path, out: Path, minutes: str) -> None:
    coco = json.loads((folder / "annotations.json").read_text())
    labelled = {a["image_id"] for a in coco["annotations"]}
    images = sorted((i for i in coco["images"] if i["id"] in labelled), key=lambda i: i["file_name"])
    learn, test = (spread([i for i in images if int(i["identity"]) % 2 == r], n) for r, n in ((1, 100), (0, 50)))
    sources = {name: f"{part(coco, chosen, out / name)}:{folder / 'images'}" for name, chosen in
               (("learn.json", learn), ("test.json", test))}  # fmt: skip
    tuned = out / "nyala.safetensors"
    pusa("train", "segmentation", "--coco", sources["learn.json"], "--start", "starter/segmentation",
         "--out", str(tuned), "--minutes", minutes)  # fmt: skip
    pusa("evaluate", "segmentation", "--coco", sources["test.json"], "--weights", "starter/segmentation",
         "--weights", str(tuned), "--worst", str(out / "worst.html"))  # fmt: skip


def part(coco: dict[str, Any], images: list[dict[str, Any]], file: Path) -> Path:
    """Writes a COCO file of some of the images."""
    ids = {image["id"] for image in images}
    file.parent.mkdir(parents=True, exist_ok=True)
    chosen = [a for a in coco["annotations"] if a["image_id"] in ids]
    file.write_text(json.dumps(coco | {"images": images, "annotations": chosen}))
    return file


def pusa(*arguments: str) -> None:
    print("$ pusa", *arguments, flush=True)
    subprocess.run([Path(sys.executable).parent / "pusa", *arguments], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if sys.argv[3:] else "15")
