"""SealID, the Saimaa ringed seals of Nepovinnykh et al. 2022 (Sensors 22(19) 7602): the folder as it unpacks.

    SealID/full images/annotation.csv                     file, class_id, reid_split, segmentation_split
    SealID/full images/{source,segmented}_{database,query}/<file>

The segmented pictures have the names and sizes of the photos, all black but the seal. wildlife-datasets moves them into
a folder SealIDSegmented beside SealID, of the same inner paths; they are found there, too. `class_id` is a name, not an
index: there are gaps. SealID tells no times, sides or sequences.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from pusa import storage
from pusa.errors import UserError
from pusa.exchange.given import Given, identity
from pusa.exchange.tables import named, read_csv
from pusa.listing import normal_path

ANNOTATION = "annotation.csv"
INNER = "full images"
SPLITS = ("database", "query")
COLUMNS = ("file", "class_id", "reid_split")


def root_of(path: str) -> str | None:
    """The folder with annotation.csv of a SealID folder, of its `full images`, or of that file; None for others."""
    text = path.rstrip("/")
    if os.path.basename(text) == ANNOTATION:
        text = os.path.dirname(text) or "."
    for folder in (text, f"{text}/{INNER}"):
        filesystem, where = storage.locate(folder)
        if storage.exists(filesystem, f"{where}/{ANNOTATION}"):
            return folder
    return None


def read(root: str, archive: str | None = None) -> dict[str, list[Given]]:
    """One seal a photo, its mask from the segmented picture where there is one (else the whole photo counts).

    `root`: as `root_of` gives it. Keys are relative to `archive`, a folder in or around SealID, and photos outside of
    it are left out; without it they are relative to SealID. Where the archive has the segmented pictures, these are
    the photos. Raises UserError naming a column, a line or the files that are missing.
    """
    where = storage.locate(root)[1]
    base = storage.locate(archive)[1] if archive else os.path.dirname(where)
    source = f"{root}/{ANNOTATION}"
    result: dict[str, list[Given]] = {}
    missing: list[str] = []
    for line, row in read_csv(source, COLUMNS):
        if row["reid_split"] not in SPLITS:
            raise UserError(
                f"{source}, line {line}: expected reid_split {' or '.join(SPLITS)}, found {row['reid_split']!r}."
            )
        name = identity(row["class_id"])
        if name is None:
            raise UserError(f"{source}, line {line}: expected a class_id, the number of a seal; it is empty.")
        cut_out = _segmented(where, row["reid_split"], row["file"])
        if cut_out is None and any(map(os.path.isdir, _folders(where, row["reid_split"]))):
            missing.append(f"segmented_{row['reid_split']}/{row['file']}")
        seal = Given((0, 0, 1, 1), fractions=True, identity=name, id=row["file"], later=_later(cut_out))
        for key in _keys(where, base, row["reid_split"], row["file"]):
            if key in result:
                raise UserError(f"{source}, line {line}: {row['file']} is there twice in the {row['reid_split']}.")
            result[key] = [seal]
    if missing:
        raise UserError(
            f"{root}: expected a segmented picture of each photo, found none of {named(missing)}. Unpack SealID again, "
            "or take all segmented folders away: the detector finds the seals then."
        )
    if not result:
        raise UserError(f"{source}: none of its photos lies in {base}. Give SealID, or a folder of it, as the archive.")
    return result


def _keys(where: str, base: str, split: str, file: str) -> Iterator[str]:
    """How the photo, and its segmented picture, are called in an archive at `base`."""
    for folder in (f"{where}/source_{split}", *_folders(where, split)):
        path = os.path.relpath(f"{folder}/{file}", base)
        if not path.startswith("..") and (folder.startswith(f"{where}/source") or os.path.isdir(folder)):
            yield normal_path(path)


def _folders(where: str, split: str) -> tuple[str, str]:
    """Where the segmented pictures of a split are: beside the photos, or in SealIDSegmented beside SealID."""
    seal_id, inner = os.path.split(where)
    beside = f"{seal_id}Segmented" if not seal_id.endswith("Segmented") else seal_id
    return f"{where}/segmented_{split}", f"{beside}/{inner}/segmented_{split}"


def _segmented(where: str, split: str, file: str) -> str | None:
    return next((f"{f}/{file}" for f in _folders(where, split) if os.path.isfile(f"{f}/{file}")), None)


def _later(cut_out: str | None):  # type: ignore[no-untyped-def]
    from pusa.exchange.cut_outs import from_cut_out

    return None if cut_out is None else lambda height, width: from_cut_out(cut_out)
