"""COCO instance annotations: https://cocodataset.org/#format-data. Boxes are [x, y, width, height] in pixels.

Beyond the standard, an annotation may have `side`, `identity` and `score`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pusa.errors import UserError
from pusa.exchange import given
from pusa.exchange.given import NOT_ANIMALS, Given
from pusa.photos import normal_path
from pusa.segmentation import masks


def is_coco(content: Any) -> bool:
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))


def read(content: dict[str, Any], source: str) -> dict[str, list[Given]]:
    """Instances by photo from the content of a COCO file; a photo without annotations has an empty list.

    Annotations are joined by image_id, those with iscrowd are left out. `source` begins the messages. Raises UserError
    naming the image or the annotation that does not fit.
    """
    images: dict[str, dict[str, Any]] = {}
    result: dict[str, list[Given]] = {}
    for image in content["images"]:
        if not (
            isinstance(image, dict)
            and isinstance(image.get("id"), int | str)
            and isinstance(image.get("file_name"), str)
        ):
            raise UserError(f"{source}: expected images with an id and a file_name, found {image!r:.200}.")
        name = normal_path(image["file_name"])
        if str(image["id"]) in images or name in result:
            raise UserError(f"{source}: image {image['id']} ({image['file_name']}) is there twice.")
        images[str(image["id"])], result[name] = image, []
    names = {str(c["id"]): str(c.get("name")).lower() for c in content.get("categories") or [] if "id" in c}
    for annotation in content["annotations"]:
        if not isinstance(annotation, dict) or str(annotation.get("image_id")) not in images:
            raise UserError(f"{source}: expected annotations with the image_id of an image, found {annotation!r:.200}.")
        if annotation.get("iscrowd") or names.get(str(annotation.get("category_id"))) in NOT_ANIMALS:
            continue
        image = images[str(annotation["image_id"])]
        where = f"{source}, annotation {annotation.get('id')} of {image['file_name']}"
        result[normal_path(image["file_name"])].append(_given(annotation, image, where))
    return result


def _given(annotation: dict[str, Any], image: dict[str, Any], where: str) -> Given:
    rle = mask(annotation["segmentation"], image, where) if annotation.get("segmentation") else None
    if annotation.get("bbox") or rle is None:
        box = given.corners(annotation.get("bbox"), where)
    else:
        x0, y0, x1, y1 = map(float, masks.box(rle))
        box = x0, y0, x1, y1
    return Given(
        box=box,
        mask=rle,
        score=None if annotation.get("score") is None else given.score(annotation["score"], where),
        side=given.side(annotation.get("side"), where),
        identity=given.identity(annotation.get("identity")),
        id=None if annotation.get("id") is None else str(annotation["id"]),
    )


def mask(segmentation: Any, image: dict[str, Any], where: str) -> masks.Rle:
    """The mask of an annotation as compressed RLE of the photo; `where` begins the messages. Raises UserError for what
    is no mask, or an empty one. Checked here, for pycocotools reads stray memory where pixels are missing."""
    try:
        if isinstance(segmentation, dict):
            height, width = (
                int(image.get(key) or n) for key, n in zip(("height", "width"), segmentation["size"], strict=True)
            )
        else:
            height, width = int(image["height"]), int(image["width"])
            points = np.concatenate([np.reshape(part, (-1, 2)) for part in segmentation]).astype(float)
            if not (np.abs(points) <= (2 * width, 2 * height)).all():
                raise UserError("a polygon lies far outside of its photo")
        rle = masks.from_coco(segmentation, height, width)
        runs = _runs(rle["counts"])
        if runs.min(initial=0) < 0 or runs.sum() != height * width:
            raise UserError(f"the mask has {runs.sum()} pixels, its photo {width} x {height}")
        if runs[1::2].sum() == 0:
            raise UserError("the mask is empty")
    except KeyError as e:
        raise UserError(f"{where}: {e} of its image or its mask is missing.") from e
    except (UserError, ValueError, TypeError, OverflowError, AttributeError) as e:
        raise UserError(f"{where}: {e}.") from e
    return rle


def _runs(counts: str) -> np.ndarray:
    """The lengths of the runs in the text of a compressed RLE: int64; negative ones mean that the text is damaged.

    A number is a row of characters of 5 bits, low bits first, each + 48; 32 says that more follow, 16 in the last one
    that it is negative. From the fourth on, numbers are differences to the last but one (cocoapi, maskApi.c).
    """
    codes = np.frombuffer(counts.encode(), np.uint8).astype(np.int64) - 48
    last = (codes & 32) == 0
    if not codes.size or codes.min() < 0 or codes.max() > 63 or not last[-1]:
        raise UserError("the text of the mask is damaged")
    starts = np.flatnonzero(np.append(True, last[:-1]))
    lengths = np.diff(np.append(starts, codes.size))
    if lengths.max() > 7:
        raise UserError("the text of the mask is damaged")
    shifts = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((codes & 31) << shifts, starts)
    numbers -= np.where(codes[last] & 16, 1 << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
