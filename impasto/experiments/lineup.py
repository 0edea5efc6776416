"""What is compared: which adapters, at which strengths, drawing what from which noise."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from impasto.config import load
from impasto.engine.config import Prompt
from impasto.errors import ConfigError, Problem
from impasto.families.config import Model
from impasto.runs.folder import RunFolder
from impasto.weights.words import as_trained

BASE = "none"
"""What the base alone is called on the command line."""

_WHAT = re.compile(r"(?P<name>.+?)(?:@(?P<at>\d+|all))?(?::(?P<strength>-?\d+(?:\.\d+)?))?")
_FORM = {
    "gradient_checkpointing", "offload_checkpoints", "reading", "precision", "text_encoder_precision", "vae_precision",
}  # fmt: skip
"""How a base is held: runs that differ in it alone have the same one."""

Find = Callable[[str], RunFolder]
"""The run of a name or a path; raises ConfigError if there is none."""


@dataclass(frozen=True)
class Row:
    """An adapter, or the base alone."""

    name: str
    """Of the run or the file."""
    adapter: Path | None = None
    strength: float = 1.0
    run: RunFolder | None = None
    step: int | None = None
    """Steps it was trained, where it is not the end of its run."""

    @property
    def label(self) -> str:
        """As people read it."""
        if self.adapter is None:
            return "no adapter"
        words = [self.name] + ([f"step {self.step}"] if self.step is not None else [])
        return " · ".join(words + ([f"× {self.strength:g}"] if self.strength != 1.0 else []))


@dataclass(frozen=True)
class Lineup:
    """Rows of adapters against columns of prompts."""

    model: Model
    rows: tuple[Row, ...]
    columns: tuple[Prompt, ...]


def rows(what: Sequence[str], strengths: Sequence[float], find: Find, *, base: bool = True) -> tuple[Row, ...]:
    """The rows that a command line names, the base alone first; each once.

    A name is a run, `run@500` its file after that step, `run@all` all its files, `file.safetensors` anybody's file,
    `none` the base; `:0.8` behind it is its strength. Raises ConfigError for what is not there.
    """
    found = [Row(BASE)] if base else []
    for text in what:
        named, strength = _named(text, find)
        found += [
            replace(row, strength=strength * each) if row.adapter else row
            for row, each in product(named, strengths or (1.0,))
        ]
    return tuple(dict.fromkeys(found))


def base_of(rows: Sequence[Row], path: str | None) -> Model:
    """The base that all rows are drawn on: the runs' own, or the one at `path` with captions read as trained.

    Raises ConfigError if the runs were trained on different bases and none is named.
    """
    if path is not None:
        read = next((as_trained(row.adapter) for row in rows if row.adapter), {})
        return Model.model_validate({**read, "path": path})
    models = {row.run.path: load(row.run.config).model for row in rows if row.run}
    if not models:
        return base_of(rows, Model().path)
    kinds = {str(path): model.model_dump(exclude=_FORM) for path, model in models.items()}
    first = next(iter(kinds))
    for other, kind in kinds.items():
        if kind != kinds[first]:
            keys = [key for key in kind if kind[key] != kinds[first][key]]
            what = f"{first} and {other} have different bases: model.{', model.'.join(keys)}"
            raise ConfigError(Problem("E-CMP-001", what, "command line", "compare them apart, or name one: --model"))
    return next(iter(models.values()))


def columns(
    rows: Sequence[Row], texts: Sequence[str], seeds: Sequence[int], usual: Callable[[Prompt], Prompt]
) -> tuple[Prompt, ...]:
    """The prompts that are drawn: those given, else the previews of the first run that has any; at every seed.

    `usual` lays over each what the command line says of all. Raises ConfigError if there is nothing to draw.
    """
    prompts = [Prompt(text=text) for text in texts] or _previews(rows)
    if not prompts:
        fix = '--prompt "what to draw"; may be repeated'
        raise ConfigError(Problem("E-CMP-002", "no run here has preview.prompts", "command line", fix))
    every = [usual(prompt) for prompt in prompts]
    return tuple(
        dict.fromkeys(
            each if seed is None else each.model_copy(update={"seed": seed})
            for each, seed in product(every, seeds or (None,))
        )
    )


# what is below serves the above


def _previews(rows: Sequence[Row]) -> list[Prompt]:
    for row in rows:
        if row.run and (found := load(row.run.config).preview.prompts):
            return list(found)
    return []


def _named(text: str, find: Find) -> tuple[list[Row], float]:
    """The rows of one word, and the strength behind it."""
    if Path(text).is_file():
        return [Row(Path(text).stem, Path(text))], 1.0
    parts = _WHAT.fullmatch(text)
    assert parts is not None, "it matches anything that is not empty"
    strength = float(parts["strength"] or 1.0)
    assert math.isfinite(strength)
    name, at = parts["name"], parts["at"]
    if name == BASE:
        return [Row(BASE)], 1.0
    path = Path(name)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise _absent(f"there is no file {path.absolute()}", "check the path")
        return [Row(path.stem, path)], strength
    return _of_run(find(name), at), strength


def _of_run(run: RunFolder, at: str | None) -> list[Row]:
    kept = {int(path.stem[-8:]): path for path in run.adapters()}
    steps = [Row(run.name, path, run=run, step=step) for step, path in kept.items()]
    final = [Row(run.name, run.final, run=run)] if run.final.is_file() else []
    match at:
        case None if final or steps:
            return final or steps[-1:]
        case "all" if final or steps:
            return [*steps, *final]
        case None | "all":
            raise _absent(f"{run.name} has written no adapter file yet", f"`impasto save {run.path}` asks for one")
        case _:
            if int(at) not in kept:
                there = ", ".join(str(step) for step in kept) or "none"
                raise _absent(
                    f"{run.name} has no file of step {at}", f"there are: {there}; save.every_steps makes more"
                )
            return [Row(run.name, kept[int(at)], run=run, step=int(at))]


def _absent(what: str, fix: str) -> ConfigError:
    return ConfigError(Problem("E-CMP-003", what, "command line", fix))
