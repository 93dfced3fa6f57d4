"""CSV files that people make in spreadsheets, and how to speak of their rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from pusa import storage
from pusa.errors import UserError


def read_csv(
    path: str, required: Sequence[str], known: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV with a header, UTF-8, separated by commas, semicolons or tabs; values are stripped.

    Raises UserError where the file cannot be read, a required column is missing, or one is not in `known`.
    """
    try:
        text = storage.read_bytes(*storage.locate(path)).decode("utf-8-sig")
    except OSError as e:
        raise UserError(f"Cannot read {path}: {e.strerror or e}.") from e
    except UnicodeDecodeError as e:
        raise UserError(f"{path} is not UTF-8 (byte {e.start}). Save it as 'CSV UTF-8'.") from e
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    try:
        lines = [(reader.line_num, [value.strip() for value in row]) for row in reader]
    except csv.Error as e:
        raise UserError(f"{path}, line {reader.line_num}: {e}.") from e
    columns = lines[0][1] if lines else []
    while columns and not columns[-1]:  # spreadsheets leave empty columns behind the last, and empty rows
        columns.pop()
    missing = [f"`{name}` is missing" for name in required if name not in columns]
    foreign = [f"`{name}` is not known" for name in columns if known is not None and name not in known]
    double = [f"`{name}` is there twice" for name in columns if columns.count(name) > 1]
    for problem in missing + foreign + double:
        expected = ", ".join(known or required)
        raise UserError(f"{path}: the column {problem}. Found: {', '.join(columns)}. Expected: {expected}.")
    for line, row in lines[1:]:
        if not any(row):
            continue
        if len(row) < len(columns) or any(row[len(columns) :]):
            raise UserError(f"{path}, line {line}: expected {len(columns)} values, found {len(row)}.")
        yield line, dict(zip(columns, row, strict=False))


def named(paths: Sequence[str]) -> str:
    """A count with the first names: 5 photos (a.jpg, b.jpg, c.jpg, ...)."""
    more = ", ..." if len(paths) > 3 else ""
    return f"{len(paths)} photo{'s' * (len(paths) != 1)} ({', '.join(paths[:3])}{more})"
