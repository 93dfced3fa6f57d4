"""MegaDetector results, formats 1.0 to 1.6: boxes [x, y, width, height] in fractions of the upright photo.

The "batch processing output format" of https://github.com/agentmorris/MegaDetector.
"""

from __future__ import annotations

from typing import Any

from pusa.errors import UserError
from pusa.exchange import given
from pusa.exchange.given import NOT_ANIMALS, Given
from pusa.photos import normal_path

CATEGORIES = {"1": "animal", "2": "person", "3": "vehicle"}  # where the file does not name its own
THRESHOLD = 0.2  # where neither the user nor the file says more; typical of MegaDetector 5


def is_megadetector(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        return False
    first = next(iter(content["images"]), None)
    return "detection_categories" in content or (isinstance(first, dict) and {"file", "detections"} <= set(first))


def read(content: dict[str, Any], source: str, threshold: float | None = None) -> dict[str, list[Given]]:
    """Instances by photo from the content of a MegaDetector file: animals with at least `threshold` confidence.

    `threshold`: None is the file's `typical_detection_threshold`, else 0.2. A photo without animals has an empty list,
    one that MegaDetector failed on is left out. `source` begins the messages. Raises UserError for what does not fit.
    """
    if threshold is None:
        metadata = (content.get("info") or {}).get("detector_metadata") or {}
        threshold = given.score(metadata.get("typical_detection_threshold", THRESHOLD), f"{source}, detector_metadata")
    categories = content.get("detection_categories") or CATEGORIES
    result: dict[str, list[Given]] = {}
    for image in content["images"]:
        if not isinstance(image, dict) or not isinstance(image.get("file"), str):
            raise UserError(f"{source}: expected images with a `file`, found {image!r:.200}.")
        name, detections = normal_path(image["file"]), image.get("detections")
        if name in result:
            raise UserError(f"{source}: {name} is there twice.")
        if detections is None:  # with the reason in `failure`
            continue
        if not isinstance(detections, list):
            raise UserError(f"{source}, {name}: expected a list of detections, found {detections!r:.200}.")
        result[name] = []
        for detection in detections:
            where = f"{source}, {name}"
            category = str(detection.get("category")) if isinstance(detection, dict) else ""
            if category not in categories:
                raise UserError(f"{where}: expected a category out of {sorted(categories)}, found {detection!r:.200}.")
            confidence = given.score(detection.get("conf"), where)
            if confidence < threshold or str(categories[category]).lower() in NOT_ANIMALS:
                continue
            box = given.corners(detection.get("bbox"), where)
            if min(box) < -0.01 or max(box) > 1.01:  # rounded to 3 or 4 digits by MegaDetector
                raise UserError(f"{where}: expected a bbox in fractions from 0 to 1, found {detection['bbox']}.")
            result[name].append(Given(box, fractions=True, score=confidence))
    return result
