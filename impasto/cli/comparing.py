"""Runs and adapter files side by side: their pictures, people's votes, what their settings differ in."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import ValidationError

from impasto.cli.runs import RUNS, found
from impasto.cli.text import columns as table
from impasto.cli.text import number
from impasto.engine.config import Prompt, Sampler
from impasto.errors import ConfigError, Problem
from impasto.experiments import apart, lineup, votes
from impasto.settings.problems import explain
from impasto.settings.source import Source, shown
from impasto.store import Store, default_root


def compare(
    *what: str,
    prompt: Annotated[list[str] | None, Parameter(name="--prompt")] = None,
    seeds: str = "",
    strengths: str = "",
    model: str | None = None,
    without_base: bool = False,
    negative: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    sampler: Sampler | None = None,
    width: int | None = None,
    height: int | None = None,
    device: str = "auto",
    title: str = "",
    out: Path = Path("compare"),
    runs: Path = RUNS,
) -> None:
    """Draw the same prompts from the same noise with many adapters: a page, a picture, and data.

    Parameters
    ----------
    what
        Runs by folder or name, run@500 for its file after that step, run@all for all its files, adapter files of
        anybody, none for the base alone. A strength may stand behind each, as in anna@500:0.8.
    prompt
        What to draw. May be repeated. If not given: the previews of the first run that has any.
    seeds
        The noises to start from, as 1,2,3. If not given: each prompt's own.
    strengths
        Every adapter at each of these, as 0.5,0.75,1.
    model
        The base. If not given: the one the runs were trained on.
    without_base
        Leave out the first row, that of the base alone.
    negative
        What not to draw.
    steps
        Denoising steps.
    guidance
        How closely the words are followed.
    sampler
        How the noise is taken away.
    width
        Pixels; the model's own if not given.
    height
        Pixels; the model's own if not given.
    device
        What computes: auto, cpu, cuda:1 ...
    title
        What the page is called. If not given: the names of the runs.
    out
        The folder to write.
    runs
        The folder of runs.
    """
    if not what:
        fix = "`impasto compare anna` or `impasto compare anna@all theirs.safetensors:0.8`"
        raise ConfigError(Problem("E-CLI-001", "nothing to compare is named", "command line", fix))
    values = {
        "negative": negative, "steps": steps, "guidance": guidance, "sampler": sampler, "width": width,
        "height": height,
    }  # fmt: skip
    given = {name: value for name, value in values.items() if value is not None}
    rows = lineup.rows(what, _numbers(strengths, "--strengths"), lambda name: found(name, runs), base=not without_base)
    prompts = lineup.columns(rows, prompt or (), whole(seeds), lambda each: _laid_over(each, given))
    line = lineup.Lineup(lineup.base_of(rows, model), rows, prompts)
    from impasto.engine.cells import Cell, draw
    from impasto.experiments import page

    cells = [Cell(each, row.adapter, row.strength) for row in rows for each in prompts]
    drawn = draw(line.model, cells, Store(default_root(os.environ)), progress, device)
    names = dict.fromkeys(row.name for row in rows if row.adapter)
    print(page.write(out, title or ", ".join(names) or "the base", line, drawn))


def count(*ballots: Path) -> None:
    """Turn blind votes into strengths: who is preferred, how surely.

    Parameters
    ----------
    ballots
        Files of votes that pages of `impasto compare` saved.
    """
    if not ballots:
        fix = "`impasto votes votes.json`"
        raise ConfigError(Problem("E-CLI-001", "no file of votes is named", "command line", fix))
    standings = votes.standings(votes.read(ballots))
    if not standings:
        raise ConfigError(Problem("E-CMP-004", "there are no votes on two rows", str(ballots[0]), "vote on the page"))
    rows = [
        [each.row, f"{each.strength:+.2f}", f"{each.low:+.2f} to {each.high:+.2f}", f"{each.chance:.0%}",
         f"{each.won:g} of {each.shown}"]
        for each in standings
    ]  # fmt: skip
    print(table(["row", "strength", "95 % interval", "preferred", "won"], rows))
    best, second = standings[:2]
    if best.low <= second.high:
        print(f"\n{best.row} leads, but the intervals of the first two overlap: more votes would tell.")


def diff(first: str, second: str, /, *, runs: Path = RUNS) -> None:
    """Tell what sets two runs apart: settings, pictures, base, versions, and how they ended.

    Parameters
    ----------
    first
        A run folder, or the name of a run in the folder of runs.
    second
        The other one.
    runs
        The folder of runs.
    """
    pair = [found(each, runs) for each in (first, second)]
    for name, lines in apart.chapters(*pair):
        print(f"{name}")
        rows = [[f"  {key}", _value(old), _value(new)] for key, old, new in lines]
        print(table(["", pair[0].name, pair[1].name], rows) if rows else "  alike")
        print()


def _value(value: object) -> str:
    return number(value) if isinstance(value, float) else "" if value is None else shown(value)


def _laid_over(prompt: Prompt, given: Mapping[str, object]) -> Prompt:
    values = {**prompt.model_dump(), **given}
    try:
        return Prompt.model_validate(values)
    except ValidationError as error:
        raise ConfigError(*explain(error, values, Prompt, Source("command line"))) from None


def _numbers(text: str, option: str) -> list[float]:
    """`0.5,1` as numbers."""
    words = [each for each in re.split(r"[,\s]+", text) if each]
    for word in words:
        if not re.fullmatch(r"-?\d+(\.\d+)?", word):
            what = f"{word!r} is no number"
            raise ConfigError(Problem("E-CLI-001", what, f"command line {option}", f"{option} 0.5,1"))
    return [float(word) for word in words]


def whole(text: str) -> Sequence[int]:
    """`1,2,3` as seeds."""
    found = _numbers(text, "--seeds")
    if any(each != int(each) or each < 0 for each in found):
        raise ConfigError(Problem("E-CLI-001", f"{text} are no seeds", "command line --seeds", "--seeds 1,2,3"))
    return [int(each) for each in found]


def progress(done: int, total: int) -> None:
    """Show how far the drawing is."""
    if sys.stderr.isatty():
        print(f"\rdrawing {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done == total:
        print(f"drew {total} pictures", file=sys.stderr)
