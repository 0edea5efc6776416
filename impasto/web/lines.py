"""New whole lines of a file that only grows, in blocks; and where they begin."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

BLOCK = 1 << 20
LARGEST = 1e100
LONGEST = 8 << 20
"""A line longer than this is no event; it is passed over."""


@dataclass
class Mark:
    """How far a file was read."""

    file: int = 0
    """Its inode: another file of the same name is read from its beginning."""
    offset: int = 0
    lines: int = 0


def fresh(path: Path, mark: Mark) -> Iterator[list[bytes]]:
    """The whole lines after `mark`, which is moved on; blocks of them, so that a long file is never held at once.

    A file that was replaced or has become shorter is read from its beginning: then `mark` is 0 at the first block.
    """
    try:
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    except OSError:  # not there yet, or a link: a run writes none
        return
    with open(opened, "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_ino != mark.file or status.st_size < mark.offset:
            mark.file, mark.offset, mark.lines = status.st_ino, 0, 0
        file.seek(mark.offset)
        rest = b""
        while block := file.read(BLOCK):
            rest += block
            end = rest.rfind(b"\n") + 1
            if end:
                whole, rest = rest[:end], rest[end:]
                lines = whole[:-1].split(b"\n")
                mark.offset += end
                mark.lines += len(lines)
                yield lines
            elif len(rest) > LONGEST:
                return


def parsed(line: bytes) -> dict[str, Any] | None:
    """The event of a line as plain values; None if it is not one. Not validated: long runs are read whole."""
    try:
        found = from_json(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("version") != 1:
        return None
    return found if isinstance(found.get("kind"), str) else None


def number(value: object) -> float | None:
    """A number that one can reckon with, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST else None


def whole(value: object) -> int:
    """A whole number that can be a step or a count; 0 if it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else 0


def text(value: object) -> str:
    """Words; what is no text is told as escapes."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
