"""What a person noted about a run: tags, a star, a note; and what was asked of it. A small file in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from impasto import files
from impasto.runs.folder import RunFolder
from impasto.web.lines import text

NAME = "marks.json"

Asked = Literal["", "pause", "stop"]


@dataclass(frozen=True)
class Noted:
    """The notes on a run."""

    tags: tuple[str, ...] = ()
    star: bool = False
    note: str = ""
    asked: Asked = ""
    """Why it was asked to stop last: to go on later, or for good."""


def path(run: RunFolder) -> Path:
    """Where they are kept."""
    return run.path / NAME


def read(run: RunFolder) -> Noted:
    """The notes on a run; none if there are none that can be read."""
    try:
        found = {} if path(run).is_symlink() else json.loads(files.read(path(run)))
    except (OSError, ValueError, RecursionError):
        return Noted()
    if not isinstance(found, dict):
        return Noted()
    tags = found.get("tags")
    return Noted(
        tuple(text(each) for each in tags if isinstance(each, str)) if isinstance(tags, list) else (),
        found.get("star") is True,
        text(found.get("note")),
        found["asked"] if found.get("asked") in ("pause", "stop") else "",
    )


def change(run: RunFolder, changes: Mapping[str, Any]) -> Noted:
    """Change some of them, in one stroke."""
    before = read(run)
    after = Noted(
        tuple(dict.fromkeys(changes.get("tags", before.tags))),
        changes.get("star", before.star),
        changes.get("note", before.note),
        changes.get("asked", before.asked),
    )
    if after != before:
        told = {"tags": list(after.tags), "star": after.star, "note": after.note, "asked": after.asked}
        files.write(path(run), json.dumps(told, indent=1, ensure_ascii=False).encode() + b"\n")
    return after
