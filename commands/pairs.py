"""Arguments of two parts, as FIRST:SECOND."""

from __future__ import annotations

from pathlib import Path

from pusa.errors import UserError


def pair(text: str, expected: str = "FILE:FOLDER, the COCO file and the folder of its photos") -> tuple[Path, Path]:
    """The two absolute paths of FIRST:SECOND. Raises UserError where there is no colon."""
    first, separator, second = text.rpartition(":")
    if not separator:
        raise UserError(f"Expected {expected}; got {text!r}.")
    return Path(first).resolve(), Path(second).resolve()
