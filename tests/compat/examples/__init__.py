"""Settings of other trainers, written by hand, and what an import has to make of each."""

from __future__ import annotations

import os
from pathlib import Path

from impasto.compat import reading, written
from impasto.compat.translate import Translation, translate

HERE = Path(__file__).parent
BESIDE = ("with-files-config.toml", "with-files-data.json", "with-files-prompts.txt")
KINDS = ("gui", "toml", "command", "onetrainer", "aitoolkit")
FILES = sorted(path for kind in KINDS for path in (HERE / kind).iterdir() if path.name not in BESIDE)


def name(path: Path) -> str:
    """`gui/standard`."""
    return f"{path.parent.name}/{path.stem}"


def imported(path: Path, *, exact: bool = False) -> Translation:
    """What an import makes of an example."""
    return translate(reading.read(Path(os.path.relpath(path, HERE))), exact=exact)


def expected(path: Path) -> Path:
    """Where it is written what that should be."""
    return HERE / "expected" / path.parent.name / f"{path.stem}.toml"


def document(path: Path) -> str:
    """The settings as they are written."""
    return written.document(imported(path))
