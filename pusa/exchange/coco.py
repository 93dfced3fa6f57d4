"""COCO instance annotations: https://cocodataset.org/#format-data. Boxes are [x, y, width, height] in pixels.

Beyond the standard, an annotation may have `side`, `identity` and `score`; those of `write` have `encounter_id` and
`instance_id`, too, and their images `sequence_id` and `deployment_id`.
"""

from __future__ import annotations

from typing import Any

from pusa.errors import UserError
from pusa.exchange import given, segmentations
from pusa.exchange.dataset import Dataset, Instance
from pusa.exchange.given import NOT_ANIMALS, Given
from pusa.listing import normal_path
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
    given.check_names(result, source)
    return result


def write(dataset: Dataset, category: str = "animal") -> dict[str, Any]:
    """The content of a COCO file: masks as compressed RLE, `area` their pixels; ids number the photos and instances in
    the order of their paths. `identity` is there where an individual is decided."""
    number = {photo.photo_id: n for n, photo in enumerate(dataset.photos, 1)}
    images = [
        _known(
            id=number[photo.photo_id],
            file_name=photo.path,
            width=photo.width,
            height=photo.height,
            date_captured=photo.taken_at and photo.taken_at.isoformat(" ", "seconds"),
            sequence_id=photo.sequence_id,
            deployment_id=photo.deployment_id,
        )
        for photo in dataset.photos
    ]
    return {
        "info": {"description": "Animals of a Pusa gallery; identity: the individual, where it is decided."},
        "licenses": [],
        "categories": [{"id": 1, "name": category, "supercategory": "animal"}],
        "images": images,
        "annotations": [_annotation(n, number[i.photo.photo_id], i) for n, i in enumerate(dataset.instances, 1)],
    }


def _annotation(number: int, image_id: int, instance: Instance) -> dict[str, Any]:
    x0, y0, x1, y1 = instance.box
    mask = dict(instance.mask) if instance.mask else None
    return _known(
        id=number,
        image_id=image_id,
        category_id=1,
        bbox=[x0, y0, x1 - x0, y1 - y0],
        area=masks.area(mask) if mask else (x1 - x0) * (y1 - y0),
        segmentation=mask,
        iscrowd=0,
        score=instance.score,
        identity=instance.individual,
        side=None if instance.side == "unknown" else instance.side,
        encounter_id=instance.encounter_id,
        instance_id=instance.instance_id,
    )


def _known(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _given(annotation: dict[str, Any], image: dict[str, Any], where: str) -> Given:
    mask = segmentations.checked(annotation["segmentation"], image, where) if annotation.get("segmentation") else None
    if annotation.get("bbox") or mask is None:
        box = given.corners(annotation.get("bbox"), where)
        if all(isinstance(image.get(key), int) for key in ("width", "height")):
            given.check_inside(box, image["width"], image["height"], where)
    else:
        x0, y0, x1, y1 = map(float, masks.box(mask))
        box = x0, y0, x1, y1
    return Given(
        box=box,
        mask=mask,
        score=None if annotation.get("score") is None else given.score(annotation["score"], where),
        side=given.side(annotation.get("side"), where),
        identity=given.identity(annotation.get("identity")),
        id=None if annotation.get("id") is None else str(annotation["id"]),
    )
