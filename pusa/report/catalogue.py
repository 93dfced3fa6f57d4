"""The report of a gallery: GALLERY/report.html, and its plots and tables as files in GALLERY/report/.

It opens offline, like the report of a run. Each plot and table stands with the rule that made it and one limit to know.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from pusa import storage
from pusa.exchange.dataset import Dataset
from pusa.exchange.plain import INDIVIDUALS
from pusa.exchange.tables import csv_text
from pusa.report.page import TEMPLATES
from pusa.report.pictures import encoded
from pusa.report.plots import plots
from pusa.report.sightings import Sightings, sightings

LISTED = 500  # individuals in the page; the CSV has all
FOLDER = "report"
RATES = ("period", "encounters", "individuals", "new", "seen_before", "resighting_rate")


def write_catalogue_report(dataset: Dataset, uri: str, today: dt.date | None = None) -> list[str]:
    """Writes the report of the gallery at `uri` and returns the paths of its files, the page first. Files of an older
    report are replaced."""
    found = sightings(dataset)
    pictures = plots(found)
    tables = csv_tables(found)
    html = TEMPLATES.get_template("catalogue.html").render(
        gallery=uri,
        made=today or dt.date.today(),
        found=found,
        pictures={name: encoded(png, "png") for name, png in pictures.items()},
        listed=LISTED,
        periods=[p.name for p in found.periods],
        folder=FOLDER,
        tables=sorted(tables),
    )
    filesystem, where = storage.locate(uri)
    files: dict[str, bytes] = {"report.html": html.encode()}
    files |= {f"{FOLDER}/{name}.png": png for name, png in pictures.items()}
    files |= {f"{FOLDER}/{name}": text.encode() for name, text in tables.items()}
    for name, content in files.items():
        storage.write_bytes(filesystem, f"{where}/{name}", content)
    return [f"{uri.rstrip('/') if '://' in uri else where}/{name}" for name in files]


def csv_tables(found: Sightings) -> dict[str, str]:
    """The tables of the report by file name."""
    names = [p.name for p in found.periods]
    places: list[dict[str, Any]] = [{"place": place, **{name: row[name] for name in names}, "all": row.total()}
                                    for place, row in found.by_place.items()]  # fmt: skip
    rates = [{"period": p.name, "encounters": p.encounters, "individuals": p.seen, "new": p.new, "seen_before": p.again,
              "resighting_rate": round(p.rate, 4)} for p in found.periods]  # fmt: skip
    curve = [{"encounter": n, "taken_from": time, "individuals": known}
             for n, (time, known) in enumerate(zip(found.when, found.curve, strict=True), 1)]  # fmt: skip
    return {
        "individuals.csv": csv_text(INDIVIDUALS, found.individuals),
        "places.csv": csv_text(["place", *names, "all"], places),
        "resightings.csv": csv_text(RATES, rates),
        "discovery.csv": csv_text(["encounter", "taken_from", "individuals"], curve),
    }
