"""A page of the photos where a detector is wrong, worst first. It opens offline; pictures are inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from pusa import photos
from pusa.report.page import TEMPLATES
from pusa.segmentation.evaluate import Judged, draw

PHOTOS = 40  # a page


def write_worst(file: Path, judged: Sequence[Judged], weights: str, threshold: float) -> int:
    """Writes the page of the worst photos, at most 40, and returns how many photos have an error at all."""
    wrong = [j for j in judged if j.wrong]
    rows = [
        {
            "name": j.photo.path.name,
            "picture": base64.b64encode(photos.encode_jpeg(draw(j), 80)).decode(),
            "animals": len(j.photo.masks),
            "missed": j.missed,
            "false": [float(s) for s in j.found.scores[~j.right]],
        }
        for j in wrong[:PHOTOS]
    ]
    page = TEMPLATES.get_template("detections.html")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        page.render(rows=rows, weights=weights, threshold=threshold, photos=len(judged), wrong=len(wrong)), "utf-8"
    )
    return len(wrong)
