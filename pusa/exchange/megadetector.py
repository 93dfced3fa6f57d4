"""MegaDetector results, formats 1.0 to 1.6: boxes [x, y, width, height] in fractions of the upright photo.

The "batch processing output format" of https://github.com/agentmorris/MegaDetector. What it has no place for, such as
masks and individuals, is in the key `pusa` of a detection, which other programs pass over.
"""

from __future__ import annotations

from typing import Any

from pusa.errors import UserError
from pusa.exchange import given, segmentations
from pusa.exchange.dataset import Dataset, Instance
from pusa.exchange.given import NOT_ANIMALS, Given
from pusa.listing import normal_path

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
            given.check_fractions(box, where)
            more = detection.get("pusa") if isinstance(detection.get("pusa"), dict) else {}
            result[name].append(
                Given(
                    box,
                    fractions=True,
                    mask=None if more.get("mask") is None else segmentations.checked(more["mask"], {}, where),
                    score=confidence if more.get("scored", True) else None,
                    side=given.side(more.get("side"), where),
                    identity=given.identity(more.get("individual")),
                    id=more.get("instance_id"),
                )
            )
    given.check_names(result, source)
    return result


def write(dataset: Dataset, detector: str = "Pusa") -> dict[str, Any]:
    """The content of a MegaDetector file, format 1.6. An instance whose box came from the user has the confidence 1."""
    detections: dict[str, list[dict[str, Any]]] = {photo.path: [] for photo in dataset.photos}
    for instance in dataset.instances:
        detections[instance.photo.path].append(_detection(instance))
    return {
        "info": {"format_version": "1.6", "detector": detector, "detector_metadata": {
            "typical_detection_threshold": 0.0, "conservative_detection_threshold": 0.0}},
        "detection_categories": CATEGORIES,
        "images": [{"file": path, "detections": found} for path, found in sorted(detections.items())],
    }  # fmt: skip


def _detection(instance: Instance) -> dict[str, Any]:
    width, height = instance.photo.width, instance.photo.height
    x0, x1 = (min(max(x / width, 0.0), 1.0) for x in instance.box[::2])
    y0, y1 = (min(max(y / height, 0.0), 1.0) for y in instance.box[1::2])
    more = {
        "instance_id": instance.instance_id,
        "encounter_id": instance.encounter_id,
        "individual": instance.individual,
        "side": None if instance.side == "unknown" else instance.side,
        "mask": instance.mask and dict(instance.mask),
        "scored": None if instance.score is not None else False,
    }
    return {
        "category": "1",
        "conf": float(1 if instance.score is None else instance.score),  # never 1: readers want a decimal point
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "pusa": {name: value for name, value in more.items() if value is not None},
    }
