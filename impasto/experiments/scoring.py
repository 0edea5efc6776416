"""Scores of the rows of a comparison: which pictures theirs are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from impasto.config import load
from impasto.data.config import Data, Dataset
from impasto.data.examples import scan
from impasto.errors import ConfigError, Problem
from impasto.experiments.lineup import Row

MOST = 256
"""Training pictures that are looked at: more change no score by much."""


def pictures(rows: Sequence[Row], folder: Path | None) -> list[Path]:
    """The pictures that the rows learned from: those of the first run, or in a folder. Raises ConfigError for none."""
    runs = [row.run for row in rows if row.run]
    if folder is None and not runs:
        fix = "--pictures FOLDER"
        raise ConfigError(Problem("E-SCO-003", "what the files were trained on is not known", "command line", fix))
    data = Data(sets=(Dataset(path=folder),)) if folder is not None else load(runs[0].config).data
    found = [each for some in scan(data).examples for each in some if each.role == "train"]
    if not found:
        where = str(folder) if folder is not None else str(runs[0].path)
        fix = "are they still there? --pictures FOLDER names others"
        raise ConfigError(Problem("E-SCO-003", "there are no pictures to compare with", where, fix))
    by_id = {each.id: each.path for each in sorted(found, key=lambda each: each.id)}
    return list(by_id.values())[:MOST]
