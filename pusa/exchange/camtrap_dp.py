"""Camtrap DP 1.0.2 (https://camtrap-dp.tdwg.org): datapackage.json, deployments.csv, media.csv, observations.csv.

An encounter is an event: one row of the level `event`, and one of the level `media` for each of its instances with its
box; both have the encounter's id as eventID. individualID is there where an individual is decided. `observationTags`
hold what the standard has no column for: side, sequence, and who decided. Everything is checked against the standard's
own schemas (pusa/exchange/schemas), without a network, when it is read and before it is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import referencing
from referencing.jsonschema import DRAFT4

from pusa.errors import UserError
from pusa.exchange import table_schema
from pusa.exchange.table_schema import Row

VERSION = "1.0.2"
HOME = f"https://raw.githubusercontent.com/tdwg/camtrap-dp/{VERSION}"
TABLES = ("deployments", "media", "observations")
PACKAGE = "datapackage.json"
_SCHEMAS = Path(__file__).parent / "schemas"


@cache
def schema(table: str) -> dict[str, Any]:
    """The Table Schema of one of TABLES."""
    return json.loads((_SCHEMAS / f"{table}-table-schema.json").read_text())


def columns(table: str) -> list[str]:
    return [field["name"] for field in schema(table)["fields"]]


def check(package: Any, source: str) -> None:
    """Raises UserError where the content of datapackage.json does not fit the profile of Camtrap DP."""
    store = {
        "https://specs.frictionlessdata.io/schemas/data-package.json": "data-package.json",
        "http://json.schemastore.org/geojson.json": "geojson.json",
    }
    contents = {uri: json.loads((_SCHEMAS / name).read_text()) for uri, name in store.items()}
    registry: Any = referencing.Registry().with_resources(
        (uri, referencing.Resource.from_contents(content, DRAFT4)) for uri, content in contents.items()
    )
    profile = json.loads((_SCHEMAS / "camtrap-dp-profile.json").read_text())
    validator = jsonschema.Draft4Validator(profile, registry=registry, format_checker=jsonschema.FormatChecker())
    problem = jsonschema.exceptions.best_match(validator.iter_errors(package))
    if problem is not None:
        where = ".".join(map(str, problem.absolute_path)) or "the package"
        raise UserError(f"{source}: {where} does not fit Camtrap DP {VERSION}: {problem.message:.300}.")


def parse(files: Mapping[str, str], source: str) -> tuple[dict[str, Any], dict[str, list[Row]]]:
    """Package and tables of the `files` by name. Raises UserError for whatever does not fit the standard."""
    try:
        package = json.loads(files[PACKAGE])
    except ValueError as e:
        raise UserError(f"{source}/{PACKAGE} is not valid JSON: {e}.") from e
    check(package, f"{source}/{PACKAGE}")
    tables = {name: table_schema.parse(files[path], schema(name), f"{source}/{path}") for name, path in paths(package)}
    table_schema.check_keys(tables, {name: schema(name) for name in TABLES}, source)
    for row in tables["observations"]:
        if (row["mediaID"] is not None) != (row["observationLevel"] == "media"):
            raise UserError(
                f"{source}: expected a mediaID with observations of the level media and none with others, found "
                f"{row['mediaID']!r} with {row['observationID']} of the level {row['observationLevel']}."
            )
        if row["eventEnd"] < row["eventStart"]:
            raise UserError(f"{source}: the observation {row['observationID']} ends before it starts.")
    return package, tables


def paths(package: Any) -> list[tuple[str, str]]:
    """Name and file of each of TABLES. Raises UserError where one is missing, or is no file beside the package."""
    found = {r.get("name"): r.get("path") for r in package["resources"]}
    for name in TABLES:
        if not isinstance(found.get(name), str) or "://" in found[name]:
            raise UserError(
                f"{PACKAGE}: expected a resource `{name}` with the path of one CSV beside it, found "
                f"{found.get(name)!r}. "
                "Download the tables of the package first."
            )
    return [(name, found[name]) for name in TABLES]


def tags_of(text: str | None) -> dict[str, str]:
    """The tags of a cell: key:value, joined by |."""
    pairs: Iterable[list[str]] = (tag.strip().split(":", 1) for tag in (text or "").split("|"))
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}
