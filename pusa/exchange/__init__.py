"""Formats of others, in and out. What a file is, is told by its content: see `kind_of`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Literal

from pyarrow import fs

from pusa import storage
from pusa.errors import UserError
from pusa.exchange import coco, megadetector
from pusa.exchange.given import Given, Listed
from pusa.exchange.tables import header, named
from pusa.listing import normal_path

__all__ = ["Given", "Listed", "check_instances", "digest", "kind_of", "read_instances", "read_photos"]

Kind = Literal["json", "wildlife-datasets", "sealid", "camtrap-dp", "csv"]


def kind_of(path: str) -> Kind:
    """What a file or folder is: a JSON of instances, a table of wildlife-datasets, SealID's folder, Camtrap DP's (or
    its datapackage.json), or any other CSV. Raises UserError where there is none, or a folder is none of these."""
    from pusa.exchange import camtrap_dp, sealid, wildlife_datasets

    filesystem, where = _there(path)
    if sealid.root_of(path):
        return "sealid"
    if where.endswith(camtrap_dp.PACKAGE) or storage.exists(filesystem, f"{where}/{camtrap_dp.PACKAGE}"):
        return "camtrap-dp"
    if filesystem.get_file_info(where).is_file:
        if not where.lower().endswith(".csv"):
            return "json"
        return "wildlife-datasets" if wildlife_datasets.is_wildlife_datasets(header(path)) else "csv"
    raise UserError(
        f"{path} is a folder. Expected SealID's (annotation.csv) or Camtrap DP's (datapackage.json), or a file."
    )


def read_instances(path: str, threshold: float | None = None, archive: str | None = None) -> dict[str, list[Given]]:
    """Instances by photo from COCO, MegaDetector results, a table of wildlife-datasets, SealID or Camtrap DP.

    Keys are `normal_path`s relative to `archive`: look photos up by `normal_path(row["path"])`. A photo that the file
    lists without animals has an empty list. `threshold` is for MegaDetector's confidence. Raises UserError for anything
    else, and for what does not fit.
    """
    from pusa.exchange import camtrap_dp_in, sealid, wildlife_datasets

    kind = kind_of(path)
    if kind == "sealid":
        return sealid.read(str(sealid.root_of(path)), archive)
    if kind == "camtrap-dp":
        return camtrap_dp_in.read(path)[0]
    if kind == "wildlife-datasets":
        return wildlife_datasets.read(path)[0]
    if kind == "csv":
        raise UserError(
            f"{path}: expected the columns of a wildlife-datasets table (image_id, identity, path, and bbox or "
            f"segmentation), found {', '.join(header(path))}."
        )
    return _from_json(path, threshold)


def _from_json(path: str, threshold: float | None) -> dict[str, list[Given]]:
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
    raise UserError(
        f"{path}: expected COCO (images, annotations) or MegaDetector results (images, info); found {_found(content)}."
    )


def _found(content: Any) -> str:
    if isinstance(content, list):
        return "a list, as COCO results are: merge it into the file with its images, as annotations"
    return f"the keys {sorted(content)[:8]}" if isinstance(content, dict) else type(content).__name__


def read_photos(path: str) -> dict[str, Listed]:
    """What Camtrap DP, or a table of wildlife-datasets, says of each photo: time, deployment, sequence. Keys are as in
    `read_instances`; empty for other kinds."""
    from pusa.exchange import camtrap_dp_in, wildlife_datasets

    kind = kind_of(path)
    if kind == "camtrap-dp":
        return camtrap_dp_in.read(path)[1]
    return wildlife_datasets.read(path)[1] if kind == "wildlife-datasets" else {}


def _there(path: str) -> tuple[fs.FileSystem, str]:
    filesystem, where = storage.locate(path)
    if not storage.exists(filesystem, where):
        raise UserError(f"Cannot read {path}: there is no such file or folder.")
    return filesystem, where


def digest(path: str) -> str:
    """SHA-256 of the content of a file; of a folder's tables and the names and sizes of all that lies beside them.

    Raises UserError where there is none.
    """
    filesystem, where = _there(path)
    if filesystem.get_file_info(where).is_file:
        return hashlib.sha256(storage.read_bytes(filesystem, where)).hexdigest()
    found = hashlib.sha256()
    for info in sorted(filesystem.get_file_info(fs.FileSelector(where, recursive=True)), key=lambda i: i.path):
        found.update(f"{info.path[len(where) :]}\0{info.size}\0".encode())
        if info.extension in ("csv", "json"):
            found.update(storage.read_bytes(filesystem, info.path))
    return found.hexdigest()


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
