"""The line on which each key of a TOML text stands."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping

Key = tuple[str | int, ...]
"""Where a value stands: ("data", "sets", 0, "path")."""

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*+")
_PART = r'(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\[^\n])*"|\'[^\'\n]*\')'
_KEY = re.compile(rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*")
_STRING = re.compile(
    r'"""(?:[^\\"]|\\.|"(?!""))*+"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\[^\n])*+"|\'[^\'\n]*\'', re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


class _Lost(Exception):
    """The text is not TOML here; what was found so far still counts."""


class Places:
    """Finds the line of each key. It trusts the text to be TOML, and gives up quietly where it is not."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Key, int] = {}
        self.twice: tuple[Key, int, int] | None = None
        self.spans: dict[Key, tuple[int, int]] = {}
        """From where to where each value stands."""
        self.statements: list[tuple[Key, int, int]] = []
        """Each `key = value` that is no part of another value, from where to where."""
        self.headers: list[tuple[Key, int, int]] = []
        """Each `[table]`, from where to where; with its number where there are several."""
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self._tables: dict[Key, int] = {}  # how many [[x]] were seen
        self._given: set[Key] = set()

    def find(self) -> Mapping[Key, int]:
        """The line of each key, 1 being the first."""
        section: Key = ()
        try:
            while self._skip_blank():
                start = self.at
                if self._take("[["):
                    section = self._open(self._key(), many=True)
                    self._expect("]]")
                    self.headers.append((section, start, self.at))
                elif self._take("["):
                    section = self._open(self._key(), many=False)
                    self._expect("]")
                    self.headers.append((section, start, self.at))
                else:
                    key = self._assignment(section)
                    self.statements.append((key, start, self.spans[key][1]))
        except (_Lost, ValueError):
            pass
        return self.lines

    def _open(self, parts: Key, *, many: bool) -> Key:
        line = self._line()
        path: Key = ()
        for number, part in enumerate(parts, 1):
            path += (part,)
            self.lines.setdefault(path, line)
            last = number == len(parts)
            if last and many:
                self._tables[path] = self._tables.get(path, 0) + 1
            if path in self._tables:
                path += (self._tables[path] - 1,)
                self.lines.setdefault(path, line)
        self._note(path, line)
        return path

    def _assignment(self, inside: Key) -> Key:
        line = self._line()
        parts = self._key()
        for end in range(1, len(parts)):
            part = inside + parts[:end]
            if part in self._given:
                self._note(part, line)
            self.lines.setdefault(part, line)
        if inside + parts in self.lines:
            self._given.add(inside + parts)  # it was the beginning of a dotted key, so it cannot be a value too
        self._note(inside + parts, line)
        self._skip_blank()
        self._expect("=")
        self._value(inside + parts)
        return inside + parts

    def _value(self, path: Key) -> None:
        self._skip_blank()
        start = self.at
        if self._take("["):
            number = 0
            while self._skip_blank() and not self._take("]"):
                self.lines[(*path, number)] = self._line()
                self._value((*path, number))
                self._skip_blank()
                self._take(",")
                number += 1
        elif self._take("{"):
            while self._skip_blank() and not self._take("}"):
                self._assignment(path)
                self._skip_blank()
                self._take(",")
        else:
            quoted = self.text[self.at : self.at + 1] in ('"', "'")
            self._match(_STRING if quoted else _SCALAR)
        self.spans[path] = start, start + len(self.text[start : self.at].rstrip())

    def _note(self, path: Key, line: int) -> None:
        if path in self._given:
            self.twice = self.twice or (path, self.lines[path], line)
        self._given.add(path)
        self.lines.setdefault(path, line)

    def _key(self) -> Key:
        self._skip_blank()
        text = self._match(_KEY)
        if '"' not in text and "'" not in text:
            return tuple(part.strip() for part in text.split("."))
        parts: Key = ()
        inner = tomllib.loads(f"{text} = 0")
        while isinstance(inner, dict):
            ((part, inner),) = inner.items()
            parts += (part,)
        return parts

    def _skip_blank(self) -> bool:
        found = _BLANK.match(self.text, self.at)
        assert found
        self.at = found.end()
        return self.at < len(self.text)

    def _take(self, mark: str) -> bool:
        if self.text.startswith(mark, self.at):
            self.at += len(mark)
            return True
        return False

    def _expect(self, mark: str) -> None:
        self._skip_blank()
        if not self._take(mark):
            raise _Lost

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if not found:
            raise _Lost
        self.at = found.end()
        return found[0]

    def _line(self) -> int:
        return bisect_right(self._ends, self.at - 1) + 1
