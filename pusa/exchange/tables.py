"""CSV files that people make in spreadsheets, and how to speak of their rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pusa import storage
from pusa.errors import UserError


def read_csv(
    path: str, required: Sequence[str], known: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV with a header, UTF-8, separated by commas, semicolons or tabs; values are stripped.

    Raises UserError where the file cannot be read, a required column is missing, or one is not in `known`.
    """
    yield from parse_csv(_text(path), path, required, known)


def _text(path: str) -> str:
    try:
        return storage.read_bytes(*storage.locate(path)).decode("utf-8-sig")
    except OSError as e:
        raise UserError(f"Cannot read {path}: {e.strerror or e}.") from e
    except UnicodeDecodeError as e:
        raise UserError(f"{path} is not UTF-8 (byte {e.start}). Save it as 'CSV UTF-8'.") from e


def header(path: str) -> list[str]:
    """The columns of a CSV. Raises UserError where it cannot be read."""
    return _columns(next(_reader(_text(path)), []))


def parse_csv(
    text: str, source: str, required: Sequence[str], known: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """`read_csv` of a file's content; `source` begins the messages."""
    reader = _reader(text)
    try:
        lines = [(reader.line_num, [value.strip() for value in row]) for row in reader]
    except csv.Error as e:
        raise UserError(f"{source}, line {reader.line_num}: {e}.") from e
    columns = _columns(lines[0][1] if lines else [])
    missing = [f"`{name}` is missing" for name in required if name not in columns]
    foreign = [f"`{name}` is not known" for name in columns if known is not None and name not in known]
    double = [f"`{name}` is there twice" for name in columns if columns.count(name) > 1]
    for problem in missing + foreign + double:
        expected = ", ".join(known or required)
        raise UserError(f"{source}: the column {problem}. Found: {', '.join(columns)}. Expected: {expected}.")
    for line, row in lines[1:]:
        if not any(row):
            continue
        if len(row) < len(columns) or any(row[len(columns) :]):
            raise UserError(f"{source}, line {line}: expected {len(columns)} values, found {len(row)}.")
        yield line, dict(zip(columns, row, strict=False))


def _reader(text: str) -> Any:
    first = text.partition("\n")[0]
    return csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))


def _columns(first: Sequence[str]) -> list[str]:
    columns = [name.strip() for name in first]
    while columns and not columns[-1]:  # spreadsheets leave empty columns behind the last, and empty rows
        columns.pop()
    return columns


def named(paths: Sequence[str]) -> str:
    """A count with the first names: 5 photos (a.jpg, b.jpg, c.jpg, ...)."""
    more = ", ..." if len(paths) > 3 else ""
    return f"{len(paths)} photo{'s' * (len(paths) != 1)} ({', '.join(paths[:3])}{more})"


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], quoted: bool = False) -> str:
    """A CSV with a header (RFC 4180, but lines end with a line feed): None is empty, booleans are true and false.

    `quoted` puts all values in quotation marks. A row without a column leaves it empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else value
