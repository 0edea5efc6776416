"""Relative paths made whole: those in a file from its folder, those on the command line from the current folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from impasto.errors import Problem
from impasto.families import hub
from impasto.schema import Section
from impasto.settings import fields
from impasto.settings.fields import Kinds, Listing, Text
from impasto.settings.places import Key
from impasto.settings.source import Source, shown

FROM_CURRENT_FOLDER: frozenset[Key] = frozenset({("output", "folder")})
"""Written to and not read: from the current folder wherever they are given, and left as they are."""

MAY_BE_IDS: frozenset[Key] = frozenset(("model", name) for name in ("path", *hub.ALSO))
"""Paths that may be ids on the hub instead."""

ALSO_PATHS: frozenset[Key] = frozenset({("model", "path")})
"""Text that is a path unless it is a known name."""


def make_whole(
    values: dict[str, Any], root: type[Section], source: Source, folder: Path, names: frozenset[str]
) -> list[Problem]:
    """Replace relative paths in `values`; the problems are paths that cannot be meant as they stand."""
    problems: list[Problem] = []

    def whole(key: Key, text: str) -> str:
        if problem := _unusable(key, text, source):
            problems.append(problem)
            return text
        if key in FROM_CURRENT_FOLDER or (key in ALSO_PATHS and text in names):
            return text
        base = Path.cwd() if source.from_command_line(key) else folder
        if key in MAY_BE_IDS and hub.is_id(text, base):
            return text
        return os.path.abspath(base / os.path.expanduser(text))

    _rewrite(values, root, (), whole)
    return problems


def _rewrite(values: Any, section: type[Section], above: Key, whole: Callable[[Key, str], str]) -> None:
    if not isinstance(values, dict):
        return
    for name, setting in fields.settings(section).items():
        key = (*above, name)
        value = values.get(name)
        if isinstance(value, str) and (setting.shape == Text(path=True) or key in ALSO_PATHS):
            values[name] = whole(key, value)
        elif isinstance(value, list) and isinstance(setting.shape, Listing):
            for each in fields.inner(setting.shape):
                for number, item in enumerate(value):
                    _rewrite(item, each, (*key, number), whole)
        elif isinstance(setting.shape, Kinds) or fields.inner(setting.shape):
            inner = fields.usual_section(setting.shape, value, setting.default)
            if inner is not None:
                _rewrite(value, inner, key, whole)


def _unusable(key: Key, text: str, source: Source) -> Problem | None:
    if any(ord(sign) < 32 for sign in text):
        what = f"{shown(text)} holds a control character: in double quotes a backslash starts one"
        fix = f"{key[-1]} = 'C:\\…' in single quotes, or with / in place of \\"
        return Problem("E-CFG-015", what, source.place(key), fix)
    if not text.strip():
        return Problem("E-CFG-015", "the path is empty", source.place(key), source.assign(key, "pictures"))
    return None
