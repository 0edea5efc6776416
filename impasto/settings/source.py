"""Where a setting was given, and how to write another value there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from impasto.settings.places import Key
from impasto.settings.secrets import without_secrets
from impasto.settings.toml import bare_or_quoted, literal

LONGEST = 60


@dataclass(frozen=True)
class Source:
    """A file, a command line laid over it, or neither (a config built by a program)."""

    file: str = ""
    lines: Mapping[Key, int] = field(default_factory=dict)
    overridden: frozenset[Key] = frozenset()

    def place(self, key: Key) -> str:
        """`my.toml:14 optim.learning_rate`."""
        name = dotted(key)
        if self.from_command_line(key):
            return f"command line {name}".rstrip()
        line = next((line for end in range(len(key), 0, -1) if (line := self.lines.get(key[:end]))), None)
        file = f"{self.file}:{line}" if line else self.file
        return f"{file} {name}".strip()

    def assign(self, key: Key, value: object, *, instead_of: Key | None = None) -> str:
        """How the key is given this value, where it (or what stood for it) was given before."""
        text = shown(value)
        if self.from_command_line(instead_of or key):
            return f"{dotted(key)}={text}"
        names = [part for part in key if isinstance(part, str)]
        return f"{bare_or_quoted(names[-1])} = {text}" if names else text

    def from_command_line(self, key: Key) -> bool:
        """Whether the command line gave it, or a part of it that the file knows nothing of."""
        if any(key[:end] in self.overridden for end in range(1, len(key) + 1)):
            return True
        return key not in self.lines and any(each[: len(key)] == key for each in self.overridden)


def dotted(key: Key) -> str:
    """`data.sets.0.path`, safe to print."""
    return ".".join(_printable(bare_or_quoted(part) if isinstance(part, str) else str(part), 40) for part in key)


def shown(value: object) -> str:
    """A value as TOML writes it, on one line, shortened, secrets left out."""
    return _printable(literal(value), LONGEST)


def _printable(text: str, longest: int) -> str:
    text = without_secrets(text)
    if len(text) > longest:
        text = f"{text[: longest - 9]}…{text[-8:]}"
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
