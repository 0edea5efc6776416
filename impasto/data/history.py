"""Captions written into a user's folder, and taken back: each change is first written down, in a folder of ours.

    history/00000003.json      what files held before and hold after, to the byte; when, why, and whether it was undone

Files are replaced one by one, each in one stroke. Whoever is interrupted can undo: what was written already is known.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impasto import files, lock
from impasto.data.findings import listed
from impasto.data.texts import MAX_BYTES
from impasto.errors import DataError, Problem

FEW = 50
"""Files for each of which the disk is waited for."""


@dataclass(frozen=True)
class Change:
    """A file, and what it held and holds. None: it was not there."""

    file: Path
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True)
class Step:
    """What was saved at once."""

    number: int
    at: float
    what: str
    changed: int
    undone: bool


class History:
    """The history of one folder of pictures."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[int, tuple[int, Step]] = {}

    def steps(self) -> list[Step]:
        """All of them, the newest first."""
        return [self._step(number) for number in reversed(self._numbers())]

    def version(self) -> int:
        """Counts up with everything that is saved or undone."""
        return sum(1 + each.undone for each in self.steps())

    def save(self, texts: Mapping[Path, str], what: str) -> int:
        """Write these texts into these files; how many have changed. Raises DataError if one cannot be."""
        files.make_folder(self._folder)
        with lock.turn(self._folder / "turn.lock"):
            changes = [Change(file, before, _encoded(text, before)) for file, text in texts.items()
                       if (before := _content(file)) is not None or text]  # fmt: skip
            changes = [each for each in changes if each.before != each.after]
            if not changes:
                return 0
            number = max(self._numbers(), default=0) + 1
            self._write(number, what, changes, undone=False)
            _write_all([(each.file, each.after) for each in changes])
        return len(changes)

    def undo(self) -> int:
        """Take back what was saved last; how many files are as before. Raises DataError if somebody has changed them
        since, and then changes none."""
        with lock.turn(self._folder / "turn.lock"):
            number = next((each for each in reversed(self._numbers()) if not self._read(each)["undone"]), None)
            if number is None:
                raise DataError(Problem("E-CAP-021", "there is nothing to take back", str(self._folder)))
            told = self._read(number)
            changes = [_change(each) for each in told["changes"]]
            odd = [each.file.name for each in changes if _content(each.file) not in (each.before, each.after)]
            if odd:
                what = f"changed by somebody else since, so nothing is taken back: {listed(odd, 5)}"
                raise DataError(Problem("E-CAP-022", what, "", "change them by hand"))
            _write_all([(each.file, each.before) for each in changes])
            self._write(number, told["what"], changes, undone=True, at=told["at"])
        return len(changes)

    def _step(self, number: int) -> Step:
        """Read once: what files held may be much."""
        changed = self._path(number).stat().st_mtime_ns
        kept = self._known.get(number)
        if kept is None or kept[0] != changed:
            told = self._read(number)
            step = Step(number, told["at"], told["what"], len(told["changes"]), told["undone"])
            kept = self._known[number] = changed, step
        return kept[1]

    def _numbers(self) -> list[int]:
        try:
            names = os.listdir(self._folder)
        except OSError:
            return []
        return sorted(int(each[:8]) for each in names if each.endswith(".json") and each[:8].isdecimal())

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.json"

    def _read(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(files.read(self._path(number)))
        return found

    def _write(
        self, number: int, what: str, changes: Sequence[Change], *, undone: bool, at: float | None = None
    ) -> None:
        told = {
            "at": time.time() if at is None else at, "what": what, "undone": undone,
            "changes": [
                {"file": _text(os.fsencode(each.file)), "before": _text(each.before), "after": _text(each.after)}
                for each in changes
            ],
        }  # fmt: skip
        files.write(self._path(number), json.dumps(told, indent=1).encode())


def _write_all(contents: Sequence[tuple[Path, bytes | None]]) -> None:
    """Each file in one stroke. Of many, the disk is waited for once and not for each."""
    few = len(contents) <= FEW or not hasattr(os, "sync")
    for file, content in contents:
        if content is None:
            files.unlink(file)
        else:
            files.write(file, content, durable=few)
    if not few:
        os.sync()


def _change(told: Mapping[str, str | None]) -> Change:
    name = _bytes(told["file"])
    assert name is not None
    return Change(Path(os.fsdecode(name)), _bytes(told["before"]), _bytes(told["after"]))


def _text(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _content(file: Path) -> bytes | None:
    """What is in a file; None if there is none. Raises DataError for what is no file of captions."""
    try:
        if file.is_symlink() or file.is_dir() or (file.exists() and file.stat().st_size > MAX_BYTES):
            what = "is a link, a folder or too large, so nothing is written there"
            raise DataError(Problem("E-CAP-023", what, str(file), "replace it by a plain file"))
        return files.read(file)
    except FileNotFoundError:
        return None


def _encoded(text: str, before: bytes | None) -> bytes:
    """UTF-8, with a line's end behind it where there was one."""
    ended = before is not None and before.endswith(b"\n")
    return text.encode() + (b"\n" if ended and text else b"")
