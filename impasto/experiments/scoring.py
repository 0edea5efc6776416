"""Scores of the rows of a comparison: which pictures are drawn for them, and what those are compared with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from impasto.config import load
from impasto.data.config import Data, Dataset
from impasto.data.examples import scan
from impasto.engine.config import Prompt
from impasto.errors import ConfigError, Problem
from impasto.experiments.lineup import Row

MOST = 256
"""Training pictures that are looked at: more change no score by much."""


@dataclass(frozen=True)
class Probes:
    """What is drawn to score an adapter: prompts with the trigger, and the same without it."""

    with_trigger: tuple[Prompt, ...]
    without: tuple[Prompt, ...]


def probes(prompts: Sequence[Prompt], trigger: str | None, instead: str) -> Probes:
    """The prompts that name the trigger, and their twins with `instead` in its place; without a trigger no twins.

    Raises ConfigError if no prompt names it.
    """
    if trigger is None:
        return Probes(tuple(prompts), ())
    word = re.compile(rf"(?<!\w){re.escape(trigger)}(?!\w)", re.IGNORECASE)
    named = [each for each in prompts if word.search(each.text)]
    if not named:
        fix = f'--prompt "a picture of {trigger}"'
        raise ConfigError(Problem("E-SCO-002", f"no prompt has the word {trigger}", "command line --trigger", fix))
    twins = (each.model_copy(update={"text": _tidy(word.sub(instead, each.text))}) for each in named)
    return Probes(tuple(named), tuple(dict.fromkeys(twins)))


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


def _tidy(text: str) -> str:
    """Without the gaps that a word leaves."""
    return re.sub(r"\s+([,.])", r"\1", re.sub(r"\s{2,}", " ", text)).strip(" ,")
