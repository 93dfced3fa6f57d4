"""Tables checked against a Table Schema (https://specs.frictionlessdata.io/table-schema/): types, constraints, keys.

Types: string, integer, number, boolean, datetime (with an offset), any. Constraints: required, unique, minimum,
maximum, enum, pattern.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pusa.errors import UserError
from pusa.exchange.tables import parse_csv

Row = dict[str, Any]


def parse(text: str, schema: Mapping[str, Any], source: str) -> list[Row]:
    """The rows of a CSV as values of the schema's types; a missing value is None. Columns that the schema does not have
    stay text. Raises UserError naming the line, the column, what was expected and what was found."""
    fields = {field["name"]: field for field in schema["fields"]}
    required = [name for name, field in fields.items() if _constraints(field).get("required")]
    missing = set(schema.get("missingValues", [""]))
    rows: list[Row] = []
    seen: dict[str, dict[str, int]] = {name: {} for name, f in fields.items() if _constraints(f).get("unique")}
    for line, texts in parse_csv(text, source, required):
        row: Row = dict.fromkeys(fields)
        for name, value in texts.items():
            where = f"{source}, line {line}, column {name}"
            row[name] = None if value in missing else value
            if name not in fields:
                continue
            if row[name] is not None:
                row[name] = _value(value, fields[name], where)
            elif name in required:
                raise UserError(f"{where}: expected a value, it is empty.")
            if name in seen and (first := seen[name].setdefault(value, line)) != line:
                raise UserError(f"{where}: expected unique values, found {value!r} again (first in line {first}).")
        rows.append(row)
    return rows


def check_keys(tables: Mapping[str, Sequence[Row]], schemas: Mapping[str, Mapping[str, Any]], source: str) -> None:
    """Raises UserError where a foreign key points to nothing."""
    for name, schema in schemas.items():
        for key in schema.get("foreignKeys", ()):
            there = {row[key["reference"]["fields"]] for row in tables[key["reference"]["resource"]]}
            for row in tables[name]:
                value = row[key["fields"]]
                if value is not None and value not in there:
                    raise UserError(
                        f"{source}: {name} has the {key['fields']} {value!r}, which the table "
                        f"{key['reference']['resource']} does not have. Add it there, or correct it."
                    )


def _value(text: str, field: Mapping[str, Any], where: str) -> Any:
    try:
        value = _PARSERS.get(field["type"], str)(text)
    except ValueError as e:
        expected = str(e) if field["type"] == "datetime" else f"expected {_NAMES.get(field['type'], field['type'])}"
        raise UserError(f"{where}: {expected}, found {text!r}.") from e
    for name, limit in _constraints(field).items():
        if name in _CHECKS and not _CHECKS[name](value, limit):
            raise UserError(f"{where}: expected {_EXPECTED[name].format(limit)}, found {text!r}.")
    return value


def _constraints(field: Mapping[str, Any]) -> Mapping[str, Any]:
    return field.get("constraints") or {}


def _boolean(text: str) -> bool:
    if text not in _BOOLEANS:
        raise ValueError
    return _BOOLEANS[text]


def _datetime(text: str) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError as e:
        raise ValueError("expected a time such as 2023-05-01T06:00:00+03:00") from e
    if time.tzinfo is None:
        raise ValueError("expected a time with its offset from UTC, such as 2023-05-01T06:00:00+03:00 or ...T03:00:00Z")
    return time


_BOOLEANS = {"true": True, "True": True, "TRUE": True, "1": True, "false": False, "False": False, "FALSE": False,
             "0": False}  # fmt: skip
_PARSERS: dict[str, Callable[[str], Any]] = {
    "integer": int,
    "number": float,
    "boolean": _boolean,
    "datetime": _datetime,
}
_NAMES = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
_CHECKS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
    "enum": lambda value, limit: value in limit,
    "pattern": lambda value, limit: re.search(limit, value) is not None,
}
_EXPECTED = {"minimum": "at least {}", "maximum": "at most {}", "enum": "one of {}", "pattern": "text of the form {}"}
