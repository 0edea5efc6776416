"""What settings from a browser may name: paths inside the roots, the built-in base, bases on the hub. Nothing else.

Settings hold no command, module, hook or environment variable, whoever writes them; paths are all there is to check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from impasto.config import MODEL_NAMES, RunConfig, leaves
from impasto.errors import Problem
from impasto.web.problems import Refused
from impasto.web.site import Site

WRITTEN = ("output.folder", "track.folder")
"""Settings that name folders to write into."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(/[\w.-]+)*")


def check(config: RunConfig, site: Site, *, only: frozenset[str] | None = None) -> None:
    """Refuse settings that name a path outside of the roots. `only`: the dotted names that came from the browser, if
    not all did."""
    values = {key: value for key, value in leaves(config).items() if only is None or key in only}
    found = list(outside(values, site))
    if found:
        raise Refused(422, *found)


def outside(values: Mapping[str, object], site: Site) -> Iterator[Problem]:
    """The settings, by dotted name, that lead out of the roots."""
    for key, value in values.items():
        path = _path(key, value)
        if path is None:
            continue
        kinds = ("runs",) if key in WRITTEN else ("runs", "data", "models")
        if not any(root.kind in kinds and _is_in(path, root.path) for root in site.roots):
            which = "the folders of runs" if key in WRITTEN else "the folders this server may look into"
            fix = "choose a folder in there; `impasto ui --help` tells how to name more"
            yield Problem("E-WEB-007", f"{path} is not in {which}", key, fix)


def _path(key: str, value: object) -> Path | None:
    if isinstance(value, Path):
        return value
    if key == "model.path" and isinstance(value, str) and value not in MODEL_NAMES:
        return None if HUB_ID.fullmatch(value) and not Path(value).exists() and ".." not in value else Path(value)
    return None


def _is_in(path: Path, root: Path) -> bool:
    try:
        whole = path.expanduser().resolve()
    except (OSError, RuntimeError, ValueError):
        return False
    return path.expanduser().is_absolute() and whole.is_relative_to(root)
