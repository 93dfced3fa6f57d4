"""What `pusa export` writes: the files of each format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pusa import storage
from pusa.errors import UserError
from pusa.exchange import camtrap_dp_out, captures, coco, mark, megadetector, plain, scr, wildlife_datasets
from pusa.exchange.captures import Histories
from pusa.exchange.dataset import Dataset

Files = dict[str, str]  # content by name
MASKED = ("coco", "megadetector", "wildlife-datasets")  # formats of pictures: they want a dataset with masks
Writer = Callable[["Dataset", "Options"], tuple[Files, list[str]]]


@dataclass(frozen=True)
class Options:
    """What some formats want to know. `occasion` and `side`: as `captures.histories`. `metadata`: of Camtrap DP.
    `species`: a name for wildlife-datasets and COCO."""

    occasion: str = "month"
    side: str | None = None
    species: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def files_of(dataset: Dataset, form: str, options: Options = Options()) -> tuple[Files, list[str]]:
    """The files of a format and notices to the user. Raises UserError for a format that there is not, and where the
    dataset lacks what the format needs."""
    if form not in FORMATS:
        raise UserError(f"There is no format {form!r}. Expected one of {', '.join(FORMATS)}.")
    if not dataset.encounters:
        raise UserError("The gallery has no encounters. `pusa gallery enroll RUN --gallery GALLERY` adds some.")
    files, notices = FORMATS[form](dataset, options)
    return files, [*dataset.notices, *notices]


def save(files: Files, out: str) -> list[str]:
    """Writes the files: a single one to `out` itself, unless that is a folder; several into the folder `out`. Returns
    their paths. Each is there whole or not at all."""
    filesystem, where = storage.locate(out)
    folder = len(files) > 1 or out.endswith("/") or filesystem.get_file_info(where).type.name == "Directory"
    if len(files) > 1 and filesystem.get_file_info(where).is_file:
        raise UserError(f"{out} is a file. This format has several files: give a folder.")
    written = []
    for name, text in files.items():
        path = f"{where.rstrip('/')}/{name}" if folder else where
        try:
            storage.write_bytes(filesystem, path, text.encode())
        except OSError as e:
            raise UserError(f"Cannot write {path}: {e.strerror or e}.") from e
        written.append(out.partition("://")[0] + "://" + path if "://" in out else path)
    return written


def _single(name: str, write: Callable[[Dataset, Options], Any]) -> Writer:
    def files(dataset: Dataset, options: Options) -> tuple[Files, list[str]]:
        if not dataset.instances:
            raise UserError("Nothing is known of the photos behind this gallery: its runs are gone. Enroll them again.")
        content = write(dataset, options)
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        return {name: text}, []

    return files


def _histories(write: Callable[[Dataset, dict[str, Histories], Options], Files]) -> Writer:
    """A format of capture histories: its own files, the effort, the occasions."""

    def files(dataset: Dataset, options: Options) -> tuple[Files, list[str]]:
        found, notices = captures.histories(dataset, options.occasion, options.side)
        any_of_them = next(iter(found.values()))
        tables = {"effort.csv": captures.effort_csv(any_of_them), "occasions.csv": captures.occasions_csv(any_of_them)}
        return write(dataset, found, options) | tables, notices

    return files


def _mark(dataset: Dataset, found: dict[str, Histories], options: Options) -> Files:
    about = "Occasions: {}. Flank: {}. A 1 is an encounter of a decided individual."
    return {
        f"{side}.inp": mark.inp(h, about.format(f"{h.occasions[0].name} to {h.occasions[-1].name}", side))
        for side, h in found.items()
    }


def _rmark(dataset: Dataset, found: dict[str, Histories], options: Options) -> Files:
    return {f"{side}.csv": mark.rmark_csv(h) for side, h in found.items()} | {"read.R": mark.rmark_script(found)}


def _secr(dataset: Dataset, found: dict[str, Histories], options: Options) -> Files:
    at, projection = scr.traps(dataset)
    files = {"read.R": scr.secr_script(list(found), next(iter(found.values())))}
    for side, h in found.items():
        files |= {f"{side}-captures.txt": scr.secr_captures(h), f"{side}-traps.txt": scr.secr_traps(h, at, projection)}
    return files


def _oscr(dataset: Dataset, found: dict[str, Histories], options: Options) -> Files:
    at, _ = scr.traps(dataset)
    files = {"read.R": scr.oscr_script(list(found), next(iter(found.values())))}
    for side, h in found.items():
        files |= {f"{side}-edf.csv": scr.oscr_edf(h), f"{side}-tdf.csv": scr.oscr_tdf(h, at)}
    return files


FORMATS: dict[str, Writer] = {
    "camtrap-dp": lambda dataset, options: camtrap_dp_out.write(dataset, options.metadata),
    "mark": _histories(_mark),
    "rmark": _histories(_rmark),
    "secr": _histories(_secr),
    "oscr": _histories(_oscr),
    "wildlife-datasets": _single("metadata.csv", lambda d, o: wildlife_datasets.write(d, o.species)),
    "coco": _single("instances.json", lambda d, o: coco.write(d, o.species or "animal")),
    "megadetector": _single("detections.json", lambda d, o: megadetector.write(d)),
    "csv": lambda dataset, options: (plain.write(dataset), []),
}
