"""RUN/report.html: what a run found, for the person who took the photos.

It opens offline: nothing is loaded and no script runs. An archive of many encounters becomes report.html,
report-2.html and so on. Memory is bounded: one pass over the photos reads no picture, then each page reads only the
files it needs.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs as pafs

from pusa import storage
from pusa.records import Run
from pusa.report.cards import Dealer, Thumbnail
from pusa.report.survey import charts, survey

ENCOUNTERS = 40  # a page; fewer where they have many pictures
PICTURES = 240  # a page holds about 15 KB of each
LISTED = 500  # rows of a list of photos; the rest is counted

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,  # names of files and individuals are not ours
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_report(
    run: Run,
    thumbnail: Thumbnail | None = None,
    gallery: str | None = None,
    encounters_a_page: int = ENCOUNTERS,
) -> list[str]:
    """Writes the report of a finished run and returns the paths of its pages, the first first.

    `thumbnail` gives the picture of an individual, a JPEG. `gallery` is the name of the gallery that the candidates
    come from, for the reader. Pages of an older report are replaced. Raises UserError where the run did not finish.
    """
    manifest = run.finished_manifest()
    overview = survey(run)
    encounters = _sorted(run.read("encounters", ["encounter_id", "sequence_id", "instance_ids", "n_patches"]))
    candidates = run.read("candidates")
    deal = Dealer(run, overview.file_of, candidates, thumbnail or (lambda individual: None))
    cuts = cut(pc.list_value_length(encounters["instance_ids"]).to_pylist(), encounters_a_page)
    names = [page_name(number) for number in range(1, len(cuts) + 1)]
    about = _about(run, manifest, gallery) | {
        "overview": overview,
        "charts": charts(overview),
        "encounters": len(encounters),
        "with_pattern": pc.sum(pc.greater(encounters["n_patches"], 0)).as_py() or 0,
        "with_candidates": pc.count_distinct(candidates["encounter_id"]).as_py(),
        "calibrated": candidates["probability"].null_count < len(candidates),
        "verified": candidates["inliers"].null_count < len(candidates),
        "pictured": thumbnail is not None,
        "pages": names,
        "listed": LISTED,
    }
    template = TEMPLATES.get_template("page.html")
    for number, (start, stop) in enumerate(cuts, 1):
        cards = deal(encounters.slice(start, stop - start))
        html = template.render(about, number=number, cards=cards, first=start + 1)
        storage.write_bytes(run.fs, run.file(names[number - 1]), html.encode())
    _remove_others(run, names)
    return [f"{run.key}/{name}" for name in names]


def page_name(number: int) -> str:
    return "report.html" if number == 1 else f"report-{number}.html"


def cut(sizes: Sequence[int], encounters: int = ENCOUNTERS, images: int = PICTURES) -> list[tuple[int, int]]:
    """Cuts encounters with `sizes` pictures each into pages, as (start, stop): at most `encounters` of them and
    `images` pictures, except where one encounter alone has more. There is always a first page."""
    pages, start, filled = [], 0, 0
    for i, size in enumerate(sizes):
        if i > start and (i - start == encounters or filled + size > images):
            pages.append((start, i))
            start, filled = i, 0
        filled += size
    return [*pages, (start, len(sizes))]


def _about(run: Run, manifest: dict[str, Any], gallery: str | None) -> dict[str, Any]:
    """What the run is: its archive, time, version, weights (kind, name, digest) and settings."""
    config = manifest["config"]
    names = {kind: stage.get("weights", "") for kind, stage in config.items() if isinstance(stage, dict)}
    names["codebook"] = config["encounters"]["codebook"]
    names["whitening"] = config.get("descriptor", {}).get("whitening")
    return {
        "run": run.uri,
        "quoted_run": shlex.quote(run.uri),
        "manifest": manifest,
        "duration": str(dt.timedelta(seconds=round(manifest["seconds"]))),
        "weights": [(kind, names.get(kind, ""), digest) for kind, digest in sorted(manifest["weights"].items())],
        "settings": json.dumps(config, indent=2, sort_keys=True),
        "gallery": gallery,
    }


def _sorted(encounters: pa.Table) -> pa.Table:
    """Encounters by sequence, then by number: #10 comes after #2."""
    ids = encounters["encounter_id"].to_pylist()
    sequences = encounters["sequence_id"].to_pylist()
    order = sorted(range(len(ids)), key=lambda i: (sequences[i], int(ids[i].rpartition("#")[2])))
    return encounters.take(pa.array(order, pa.int64()))


def _remove_others(run: Run, names: Sequence[str]) -> None:
    """Removes pages that an earlier, longer report left behind."""
    for info in run.fs.get_file_info(pafs.FileSelector(run.path)):
        if re.fullmatch(r"report-\d+\.html", info.base_name) and info.base_name not in names:
            run.fs.delete_file(info.path)
