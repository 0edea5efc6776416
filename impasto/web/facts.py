"""What a run's settings and its record say of it, as far as a table shows it."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impasto import files
from impasto.runs.folder import RunFolder
from impasto.web.lines import text

_SECTIONS = re.compile(r"\[(adapter|model|train)\]")


@dataclass(frozen=True)
class Facts:
    """What the settings and the record of a run say in a table."""

    name: str = ""
    usable: bool = False
    """Whether the settings are TOML at all."""
    kind: str = ""
    rank: int | None = None
    base: str = ""
    family: str = ""
    total: int = 0
    session: str = ""
    parent: str = ""
    parent_session: str = ""
    parent_step: int | None = None


def inner(run: RunFolder, path: Path) -> Path | None:
    """A file of a run, unless it is none or a link leads out of the run's folder."""
    try:
        found = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return None
    return found if found.is_relative_to(run.path) and os.path.isfile(found) else None


def facts(run: RunFolder) -> Facts:
    settings, usable = _settings(run)
    told = record(run)
    adapter, model, train = (_section(settings, name) for name in ("adapter", "model", "train"))
    base, parent = _section(told, "base"), _section(told, "parent")
    rank, steps, step = adapter.get("rank"), told.get("steps") or train.get("steps"), parent.get("step")
    file = (text(model.get("path")) or "pocket").replace("\\", "/").split("/")[-1]
    return Facts(
        name=text(settings.get("name")), usable=usable, kind=text(adapter.get("kind")) or "lora",
        rank=rank if isinstance(rank, int) else None, base=text(base.get("name")) or file,
        family=text(base.get("family")), total=steps if isinstance(steps, int) and steps > 0 else 0,
        session=text(told.get("session")), parent=text(parent.get("run")),
        parent_session=text(parent.get("session")), parent_step=step if isinstance(step, int) else None,
    )  # fmt: skip


def _settings(run: RunFolder) -> tuple[Mapping[str, Any], bool]:
    path = inner(run, run.config)
    try:
        written = files.read(path).decode() if path else None
        return ({}, False) if written is None else (_parsed(written), True)
    except (OSError, ValueError, RecursionError):
        return {}, False


def _parsed(written: str) -> Mapping[str, Any]:
    """The settings that are shown in a table: only their sections are parsed, which takes a quarter of the time."""
    parts = re.split(r"(?m)^(?=\[)", written)
    try:
        return tomllib.loads("".join(each for at, each in enumerate(parts) if at == 0 or _SECTIONS.match(each)))
    except ValueError:  # a text over several lines looks like the head of a section
        return tomllib.loads(written)


def record(run: RunFolder) -> Mapping[str, Any]:
    path = inner(run, run.path / "record.json")
    try:
        found = json.loads(files.read(path)) if path else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}
