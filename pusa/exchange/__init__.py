"""Formats of others, in and out."""

from __future__ import annotations

import json
from collections.abc import Iterable

from pusa import storage
from pusa.errors import UserError
from pusa.exchange import coco, megadetector
from pusa.exchange.given import Given
from pusa.exchange.tables import named
from pusa.photos import normal_path

__all__ = ["Given", "check_instances", "read_instances"]


def read_instances(path: str, threshold: float | None = None) -> dict[str, list[Given]]:
    """Instances by photo from a COCO file or MegaDetector results, told apart by their keys.

    Keys are `normal_path`s: look photos up by `normal_path(row["path"])`. A photo that the file lists without animals
    has an empty list. `threshold` is for MegaDetector's confidence. Raises UserError for anything else.
    """
    try:
        content = json.loads(storage.read_bytes(*storage.locate(path)))
    except OSError as e:
        raise UserError(f"Cannot read {path}: {e.strerror or e}.") from e
    except ValueError as e:
        raise UserError(f"{path} is not valid JSON: {e}.") from e
    if coco.is_coco(content):
        return coco.read(content, path)
    if megadetector.is_megadetector(content):
        return megadetector.read(content, path, threshold)
    if isinstance(content, list):
        found = "a list, as COCO results are: merge it into the file with its images, as annotations"
    else:
        found = f"the keys {sorted(content)[:8]}" if isinstance(content, dict) else type(content).__name__
    raise UserError(
        f"{path}: expected COCO (images, annotations) or MegaDetector results (images, info); found {found}."
    )


def check_instances(instances: dict[str, list[Given]], paths: Iterable[str], source: str) -> list[str]:
    """Compares the photos of an instances file with those of the archive (`paths`); gives notices to the user.

    Raises UserError where they have none in common.
    """
    archive = {normal_path(path): path for path in paths}
    absent = sorted(instances.keys() - archive.keys())
    unlisted = sorted(archive.keys() - instances.keys())
    if len(unlisted) == len(archive):
        example = (
            f"The file has {absent[0]}, the archive {next(iter(archive.values()))}. " if absent and archive else ""
        )
        raise UserError(f"{source} names none of the photos. {example}Paths must be relative to the archive.")
    notices = [f"{named(absent)} in {source} but not in the archive."] if absent else []
    return notices + ([f"{named(unlisted)} not in {source}: no animals there."] if unlisted else [])
