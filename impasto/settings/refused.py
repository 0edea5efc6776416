"""What is refused before anything else is looked at: keys to other services, and files of newer versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from impasto.errors import Problem
from impasto.settings.places import Key
from impasto.settings.secrets import is_secret, names_secret
from impasto.settings.source import Source, shown


def newer(values: Mapping[str, Any], version: int, source: Source) -> Problem | None:
    """The problem of a file that a newer version wrote."""
    given = values.get("version")
    if isinstance(given, int) and given > version:
        what = f"{shown(given)} is newer than this impasto, which reads version {version}"
        return Problem("E-CFG-007", what, source.place(("version",)), "install a newer impasto")
    return None


def several(values: Mapping[str, Any], source: Source) -> Problem | None:
    """The problem of a file that describes many runs, where one is asked for."""
    if "sweep" not in values:
        return None
    what = "this file describes many runs, with a section [sweep], and one is asked for"
    return Problem("E-SWP-007", what, source.place(("sweep",)), f"`impasto sweep {source.file}`, or delete the section")


def take_secrets(values: dict[str, Any], source: Source) -> list[Problem]:
    """Remove what looks like a key to some service, so that no other message repeats it."""
    found: list[Problem] = []
    waiting: list[tuple[Key, Any]] = [((), values)]
    while waiting:
        above, inside = waiting.pop()
        for part, value in list(inside.items() if isinstance(inside, dict) else enumerate(inside)):
            key = (*above, part)
            if isinstance(value, dict | list):
                waiting.append((key, value))
            elif is_secret(value) or (isinstance(value, str) and isinstance(part, str) and names_secret(part)):
                found.append(_secret(key, source))
                inside[part] = ""
                if isinstance(inside, dict):
                    del inside[part]
    return found


def _secret(key: Key, source: Source) -> Problem:
    what = "this looks like a key to a service (not shown here); settings are copied into run folders and files"
    fix = "delete it, and let the environment of that service's own tool hold it"
    return Problem("E-CFG-008", what, source.place(key), fix)
