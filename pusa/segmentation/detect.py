"""From photos to instances: decode each photo, find its animals, keep each as a crop with its mask.

The first stage of a run, and the only one that sees whole photos: all later stages work on the decoded stored crop, so
that a later run with other weights gives what a first run would have given. Instances come from Mask R-CNN (paper,
section "Instance segmentation") or from a file of the user.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from pusa import exchange, photos, records, storage
from pusa.config import Config, set_threads
from pusa.errors import PhotoError, UserError
from pusa.listing import normal_path
from pusa.segmentation import masks
from pusa.segmentation.engine import open_segmenter
from pusa.segmentation.segmenter import SegmentationConfig


class CropConfig(Config):
    """How an instance's crop is stored."""

    longer_side: int = 1024  # px; larger crops are shrunk: a pattern needs no more, a run's disk space does
    jpeg_quality: int = 92
    max_megapixels: float = 200.0  # a photo above is refused from its header, before it fills the memory


def crop_box_of(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The box rounded outwards to whole pixels and clipped to the photo: x0, y0, x1, y1, at least one pixel wide."""
    x0, y0 = min(max(math.floor(box[0]), 0), width - 1), min(max(math.floor(box[1]), 0), height - 1)
    return x0, y0, max(min(math.ceil(box[2]), width), x0 + 1), max(min(math.ceil(box[3]), height), y0 + 1)


def stored_crop(rgb: np.ndarray, crop_box: tuple[int, int, int, int], config: CropConfig) -> bytes:
    """The JPEG of a crop of an H x W x 3 uint8 RGB photo, shrunk to `longer_side` where it is larger."""
    x0, y0, x1, y1 = crop_box
    crop = rgb[y0:y1, x0:x1]
    scale = config.longer_side / max(crop.shape[:2])
    if scale < 1:
        size = max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale))
        crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    return photos.encode_jpeg(crop, config.jpeg_quality)


class PhotoDetector:
    """Decodes the photos of a table of `records.PHOTOS` and fills digest, status, error and instances.

    `archive` is the folder or URI that the paths are relative to, None where the photos come as bytes. `given` is a
    file (`exchange.read_instances`) whose instances take the detector's place. A photo that cannot be decoded becomes a
    row with status "error" and the reason.
    """

    def __init__(
        self,
        archive: str | None,
        config: SegmentationConfig,
        crops: CropConfig | None = None,
        given: str | None = None,
        threads: int | None = None,
    ) -> None:
        set_threads(threads)
        self.archive = storage.locate(archive) if archive is not None else None
        self.crops = crops or CropConfig()
        self.given = exchange.read_instances(given, archive=archive) if given else None
        self.segmenter = None if given else open_segmenter(config)

    def __call__(self, table: pa.Table, contents: Sequence[bytes] | None = None) -> pa.Table:
        """The table, filled in. `contents`: the photos' files, in its order; read from the archive where left out."""
        rows = table.select(["photo_id", "path", "status", "error", "digest"]).to_pylist()
        nested: list[list[dict[str, Any]]] = []
        for k, row in enumerate(rows):
            found: list[dict[str, Any]] = []
            if row["status"] != "error":  # an error of the index stays
                try:
                    found = self.instances(row, contents[k] if contents is not None else self.read(row["path"]))
                    row["status"] = "ok"
                except PhotoError as e:
                    row |= {"status": "error", "error": str(e)}
            nested.append(found)
        filled = {c: [row[c] for row in rows] for c in ("status", "error", "digest")}
        return records.with_instances(records.with_columns(table, **filled), nested)

    def read(self, path: str) -> bytes:
        """The file of a photo of the archive. Raises PhotoError where it cannot be read."""
        assert self.archive is not None
        fs, root = self.archive
        try:
            return storage.read_bytes(fs, f"{root}/{path}")
        except OSError as e:
            raise PhotoError(f"cannot be read: {e}") from e

    def instances(self, row: dict[str, Any], content: bytes) -> list[dict[str, Any]]:
        """The instances of one photo; sets row["digest"]. Raises PhotoError where the photo cannot be used."""
        row["digest"] = hashlib.blake2b(content, digest_size=16).hexdigest()
        rgb = photos.decode(content, int(self.crops.max_megapixels * 1e6), row["path"])
        found = self.segment(rgb) if self.given is None else self.look_up(row["path"], rgb)
        height, width = rgb.shape[:2]
        result = []
        for number, fields in enumerate(found):
            crop_box = crop_box_of(fields["box"], width, height)
            crop = stored_crop(rgb, crop_box, self.crops)
            instance_id = f"{row['photo_id']}#{number}"
            result.append(records.new_instance(instance_id, crop_box=crop_box, crop=crop, **fields))
        return result

    def segment(self, rgb: np.ndarray) -> list[dict[str, Any]]:
        """Box, score and mask of each animal that the detector finds, best first."""
        assert self.segmenter is not None
        found = self.segmenter.segment([rgb])[0]
        rows = zip(found.boxes, found.scores, found.masks, strict=True)
        return [{"box": box, "score": float(score), "mask": mask} for box, score, mask in rows]

    def look_up(self, path: str, rgb: np.ndarray) -> list[dict[str, Any]]:
        """Box, mask, score and side of the user's own instances of a photo; where there is no mask, the box is it."""
        assert self.given is not None
        height, width = rgb.shape[:2]
        result = []
        for given in self.given.get(normal_path(path), []):
            try:
                given = given.with_mask(height, width)
            except UserError as e:
                raise PhotoError(str(e)) from e
            box, mask = given.box_in(width, height), given.mask
            if mask is not None and tuple(mask["size"]) != (height, width):
                size = f"{mask['size'][1]} x {mask['size'][0]}"
                raise PhotoError(f"a mask of {size} pixels was given for this photo of {width} x {height}")
            if box[2] <= box[0] or box[3] <= box[1]:
                raise PhotoError(f"a box outside of this photo of {width} x {height} pixels was given: {given.box}")
            if mask is None:
                x0, y0, x1, y1 = crop_box_of(box, width, height)
                whole = np.zeros((height, width), bool)
                whole[y0:y1, x0:x1] = True
                mask = masks.encode(whole)
            result.append({"box": box, "score": given.score, "mask": mask, "side": given.side})
        return result
