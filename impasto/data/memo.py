"""What is known of files that have not changed since they were looked at: so a second scan takes moments.

A file is the same if path, size, both times and number on disk are. It is kept outside of the dataset, and can be
deleted at any time.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast, get_args

import PIL

from impasto import files
from impasto.data.pixels import Look
from impasto.data.sniff import Kind
from impasto.errors import DiskError, Problem

FORMAT = f"2 pillow {PIL.__version__}"
"""Another version of ours or of the decoder may see another picture: then nothing is remembered."""

SETTLED = 2_000_000_000
"""Nanoseconds that a file must have been left alone to be remembered: some disks' clocks are as coarse as this."""


@dataclass(frozen=True)
class Known:
    """A file's hash, and what looking at it gave."""

    id: str
    look: Look | Problem


class Memo:
    """Remembers files. Without a path it forgets everything at once."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._files = {} if path is None else _loaded(path)
        self._changed = False

    def get(self, path: str, found: os.stat_result) -> Known | None:
        """What is known of a file, if it is the same."""
        entry = self._files.get(path)
        if not isinstance(entry, list) or len(entry) != 3 or entry[0] != _mark(found):
            return None
        try:
            return Known(str(entry[1]), _look(entry[2]))
        except (KeyError, TypeError, ValueError):
            return None

    def put(self, path: str, found: os.stat_result, known: Known) -> None:
        """Remember a file."""
        if self._path is not None and time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > SETTLED:
            self._files[path] = [_mark(found), known.id, asdict(known.look)]
            self._changed = True

    def save(self) -> Problem | None:
        """Write it down. That this cannot be done costs time and nothing else."""
        if self._path is None or not self._changed:
            return None
        content = json.dumps({"format": FORMAT, "files": self._files}, separators=(",", ":")).encode("ascii")
        try:
            files.make_folder(self._path.parent)
            files.write(self._path, content, durable=False)
        except (DiskError, OSError) as error:
            return Problem("E-DAT-057", f"what is known of pictures cannot be kept ({error})", str(self._path))
        return None


def _mark(found: os.stat_result) -> list[int]:
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _loaded(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    whole = isinstance(content, dict) and content.get("format") == FORMAT and isinstance(content.get("files"), dict)
    return cast(dict[str, Any], content["files"]) if whole else {}


def _look(kept: dict[str, Any]) -> Look | Problem:
    if "code" in kept:
        return Problem(**kept)
    width, height = map(int, kept["size"])
    if kept["kind"] not in get_args(Kind):
        raise ValueError(kept["kind"])
    return Look(kept["kind"], (width, height), tuple(Problem(**each) for each in kept["notes"]), str(kept["trace"]))
