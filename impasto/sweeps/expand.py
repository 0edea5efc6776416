"""From a file of settings with a `[sweep]` to the runs it means.

file, command line -> Plan          what is given, paths made whole
Plan -> points -> runs              each a RunConfig of its own, all checked before anything starts
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, islice, product
from math import prod
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from impasto import config as settings
from impasto import dice
from impasto.checks import check, check_together
from impasto.config import MODEL_NAMES, RunConfig, base_key
from impasto.errors import ConfigError, Problem
from impasto.settings import overrides, paths, problems, toml
from impasto.settings.source import Source
from impasto.settings.toml import literal
from impasto.sweeps import axes as parsing
from impasto.sweeps import sobol
from impasto.sweeps.axes import Axis
from impasto.sweeps.config import Sweep, SweepFile
from impasto.sweeps.names import names

MOST = 1000
"""Runs of one sweep."""

Point = dict[str, Any]
"""A value for each axis."""


@dataclass(frozen=True)
class Run:
    """One run of a sweep."""

    name: str
    variant: int
    """Which combination; runs of one variant differ in their seed alone."""

    point: Point
    seed: int
    config: RunConfig

    round: int = 0
    """When it was proposed, where what is tried depends on what was tried before."""


@dataclass(frozen=True)
class Plan:
    """A sweep before its runs are made: the settings that all runs share, and what varies."""

    name: str
    values: dict[str, Any]
    """The shared settings as they were given, paths whole."""

    sweep: Sweep
    axes: tuple[Axis, ...]
    source: Source
    folder: Path
    """Where the runs are, and the sweep's own files."""

    proposed: tuple[tuple[Point, ...], ...] = ()
    """With `optuna`: the combinations of each round after the first."""

    def text(self) -> str:
        """All of it as a file of settings that means the same wherever it lies."""
        own = self.sweep.model_dump(mode="json", exclude_defaults=True)
        own["axes"] = {key: value for key, value in parsing.flat(own.get("axes", {}))}
        head = "# The settings of a sweep: what all runs share, and under [sweep] what varies.\n"
        return head + _document({**self.values, "sweep": own})


def read(file: str | None, laid_over: Sequence[str], *, folder: Path | None = None) -> Plan:
    """A file of settings (or none) with what the command line lays over it: settings, values of axes, `sweep.seeds=2`.

    `folder` is where the sweep lives; by default it stands in the folder of runs and is called as they are, with
    `-sweep`. Raises ConfigError with everything that is wrong.
    """
    return planned(*_given(file), laid_over, folder=folder)


def planned(
    values: Mapping[str, Any], source: Source, home: Path, laid_over: Sequence[str] = (), *, folder: Path | None = None
) -> Plan:
    """The same, of values from wherever they come; `home` is where their relative paths start."""
    values = dict(values)
    own = values.pop("sweep", {})
    given, swept, rest = _sorted(laid_over)
    shared, keys, found = overrides.lay(values, rest, RunConfig)
    source = Source(source.file, source.lines, keys)
    found += paths.make_whole(shared, RunConfig, source, home, MODEL_NAMES)
    sweep, wrong = _section(own, swept, source)
    if found + wrong:
        raise ConfigError(*found, *wrong)
    swept_axes = {key: _whole(shared, key, each, home, given=False) for key, each in parsing.flat(sweep.axes)}
    swept_axes |= {key: _whole(shared, key, each, Path.cwd(), given=True) for key, each in given.items()}
    if not swept_axes and sweep.seeds == 1:
        fix = "give a setting several values: `impasto sweep my.toml adapter.rank=4,16`, or a section [sweep.axes]"
        raise ConfigError(Problem("E-SWP-002", "nothing varies", source.file or "command line", fix))
    sweep = sweep.model_copy(update={"axes": swept_axes, "storage": _storage(sweep.storage, swept, home)})
    name = str(shared.get("name", RunConfig().name))
    if folder is None:
        runs = Path(os.path.expanduser(str(shared.get("output", {}).get("folder", RunConfig().output.folder))))
        folder = Path(os.path.abspath(runs / f"{name}-sweep"))
    axes = tuple(parsing.axis(key, each) for key, each in swept_axes.items())
    return Plan(name, shared, sweep, axes, source, folder)


def is_swept(text: str) -> bool:
    """Whether an argument is for the sweep: an axis, or one of its own settings."""
    key, _, value = text.partition("=")
    return key.strip().startswith("sweep.") or parsing.is_axis(value)


def runs(plan: Plan) -> list[Run]:
    """All runs of a sweep, in order. Raises ConfigError with everything that is wrong with any of them."""
    found, wrong = [], []
    for run, source in drawn(plan):
        wrong += check(run.config, source)
        found.append(run)
    wrong += check_together([each.config for each in found])
    if wrong:
        raise ConfigError(*dict.fromkeys(wrong))
    return found


def drawn(plan: Plan) -> list[tuple[Run, Source]]:
    """All runs of a sweep by their settings alone: no folder or file that they name is looked at."""
    chosen = points(plan)
    seeds = _seeds(plan)
    found: list[tuple[Run, Source]] = []
    wrong: list[Problem] = []
    rounds = _rounds(plan, len(chosen))
    called_all = names(plan.name, chosen, seeds, numbered=plan.sweep.method == "optuna")
    for variant, (point, called) in enumerate(zip(chosen, called_all, strict=True)):
        for seed, name in zip(seeds, called, strict=True):
            try:
                config, source = _built(plan, point, name, seed if len(seeds) > 1 else None)
            except ConfigError as error:
                wrong += error.problems
            else:
                found.append((Run(name, variant, point, config.train.seed, config, rounds[variant]), source))
    if wrong:
        raise ConfigError(*dict.fromkeys(wrong))
    return found


def groups(found: Sequence[Run]) -> list[list[Run]]:
    """Runs that may share a base, together, in order; those of different rounds apart."""
    by: dict[tuple[int, str], list[Run]] = {}
    for each in found:
        by.setdefault((each.round, base_key(each.config)), []).append(each)
    return list(by.values())


def points(plan: Plan) -> list[Point]:
    """The combinations that are tried."""
    axes, pick, seed = plan.axes, plan.sweep.pick, plan.sweep.dice
    size = prod(len(each.values) for each in axes) if all(each.values for each in axes) else None
    match plan.sweep.method:
        case "grid":
            found = _grid(axes, pick, seed, size)
        case "random":
            found = _drawn(axes, pick, size, _random(len(axes), seed))
        case "sobol":
            if len(axes) > sobol.DIMENSIONS:
                raise _wrong(f"{len(axes)} axes; sobol fills at most {sobol.DIMENSIONS}", 'method = "random"')
            found = _drawn(axes, pick, size, sobol.points(len(axes), seed))
        case "optuna":
            found = [*_first(plan, size), *chain.from_iterable(plan.proposed)]
    if (count := len(found) * plan.sweep.seeds) > MOST:
        raise _wrong(f"{count} runs, more than {MOST}", "pick = 12")
    return found


def _first(plan: Plan, size: int | None) -> list[Point]:
    """What is tried before anything is known."""
    few = plan.sweep.pick and min(plan.sweep.pick, plan.sweep.at_a_time)
    axes, seed = plan.axes, plan.sweep.dice
    shares = sobol.points(len(axes), seed) if len(axes) <= sobol.DIMENSIONS else _random(len(axes), seed)
    return _drawn(axes, few, size, shares)


def _rounds(plan: Plan, count: int) -> list[int]:
    """The round of each combination."""
    later = [number for number, some in enumerate(plan.proposed, start=1) for _ in some]
    return [*([0] * (count - len(later))), *later]


def _grid(axes: Sequence[Axis], pick: int | None, seed: int, size: int | None) -> list[Point]:
    if size is None:
        loose = next(each for each in axes if not each.values)
        fix = f'say how many: "{loose.key}" = "…:4", or method = "sobol" with pick = 12'
        raise _wrong(f"a grid needs a number of values, and the range of {loose.key} has none", fix)
    if size > 10 * MOST:
        raise _wrong(f"the grid has {size} combinations", 'method = "sobol" with pick = 12')
    whole = [dict(zip([each.key for each in axes], some, strict=True)) for some in product(*(a.values for a in axes))]
    if pick is None or pick >= len(whole):
        return whole
    kept = random.Random(dice.seed("sweep", seed)).sample(range(len(whole)), pick)
    return [whole[at] for at in sorted(kept)]


def _drawn(
    axes: Sequence[Axis], pick: int | None, size: int | None, shares: Iterator[tuple[float, ...]]
) -> list[Point]:
    if pick is None:
        raise _wrong("how many combinations is not said", "pick = 12")
    wanted = pick if size is None else min(pick, size)
    found: list[Point] = []
    for some in islice(shares, 100 * wanted + 1000):
        point = {each.key: each.at(share) for each, share in zip(axes, some, strict=True)}
        if point not in found:
            found.append(point)
        if len(found) == wanted:
            break
    return found


def _random(dimensions: int, seed: int) -> Iterator[tuple[float, ...]]:
    roll = random.Random(dice.seed("sweep", seed))
    while True:
        yield tuple(roll.random() for _ in range(dimensions))


def _seeds(plan: Plan) -> list[int]:
    first = plan.values.get("train", {}).get("seed", 0)
    if plan.sweep.seeds == 1:
        return [first if isinstance(first, int) else 0]
    if any(each.key == "train.seed" for each in plan.axes):
        raise _wrong("train.seed varies, and several seeds are asked for too", "delete one of them")
    if not isinstance(first, int):
        return list(range(plan.sweep.seeds))
    return [first + at for at in range(plan.sweep.seeds)]


def _built(plan: Plan, point: Point, name: str, seed: int | None) -> tuple[RunConfig, Source]:
    over = [f"{key}={literal(value)}" for key, value in point.items()]
    over += [] if seed is None else [f"train.seed={seed}"]
    values = deepcopy(plan.values)
    values["name"] = name
    output = values.setdefault("output", {})
    if isinstance(output, dict):
        output["folder"] = str(plan.folder)
    return settings.build(values, over, Source(plan.source.file, plan.source.lines), plan.folder)


def _given(file: str | None) -> tuple[dict[str, Any], Source, Path]:
    if file is None:
        return {}, Source(), Path.cwd()
    document = toml.parse(toml.read_text(Path(file)), file)
    return dict(document.values), Source(file, document.lines), Path(file).absolute().parent


def _sorted(laid_over: Sequence[str]) -> tuple[dict[str, str], list[str], list[str]]:
    """What is laid over: axes, settings of the sweep, settings of all runs."""
    given: dict[str, str] = {}
    swept, rest = [], []
    for each in laid_over:
        key, _, value = each.partition("=")
        if key.strip().startswith("sweep."):
            swept.append(each)
        elif parsing.is_axis(value):
            if key.strip() in given:
                raise ConfigError(Problem("E-CFG-004", f"{key.strip()} is given twice", "command line", "keep one"))
            given[key.strip()] = value
        else:
            rest.append(each)
    return given, swept, rest


def section(own: Any) -> Sweep:
    """A `[sweep]` by itself. Raises ConfigError with everything that is wrong with it."""
    found, wrong = _section(own, (), Source())
    if wrong:
        raise ConfigError(*wrong)
    return found


def _section(own: Any, swept: Sequence[str], source: Source) -> tuple[Sweep, list[Problem]]:
    values, keys, found = overrides.lay({"sweep": own}, swept, SweepFile)
    source = Source(source.file, source.lines, keys)
    try:
        return SweepFile.model_validate(values).sweep, found
    except ValidationError as error:
        return Sweep(), [*found, *problems.explain(error, values, SweepFile, source)]


def _whole(shared: Mapping[str, Any], key: str, axis: Any, folder: Path, *, given: bool) -> Any:
    """An axis as a file holds it: values as TOML reads them for this setting, paths whole. Ranges stay as they are."""
    if isinstance(axis, str) and len(list(parsing.split(axis))) == 1:
        return axis
    parts = list(parsing.split(axis)) if isinstance(axis, str) else [literal(each) for each in axis or ()]
    found = []
    for each in parts:
        if not each:
            raise ConfigError(Problem("E-SWP-001", "a value is empty", f"{'command line ' * given}{key}", "1,2,3"))
        values, keys, wrong = overrides.lay(shared, [f"{key}={each}"], RunConfig)
        source = Source("", {}, keys if given else frozenset())
        wrong += paths.make_whole(values, RunConfig, source, folder, MODEL_NAMES)
        if wrong:
            raise ConfigError(*wrong)
        found.append(_dug(values, key))
    return found


def _storage(given: str | None, swept: Sequence[str], home: Path) -> str | None:
    """Where run folders come back by; a plain path whole."""
    if given is None or "://" in given or "::" in given:
        return given
    on_the_line = any(each.partition("=")[0].strip() == "sweep.storage" for each in swept)
    return os.path.abspath((Path.cwd() if on_the_line else home) / os.path.expanduser(given))


def _dug(values: Any, key: str) -> Any:
    for part in parsing.path_of(key):
        values = values[part]
    return values


def _document(values: Mapping[str, Any]) -> str:
    """Values as TOML: plain ones first, then a header for each section."""
    lines = [f"{toml.bare_or_quoted(key)} = {literal(each)}" for key, each in values.items() if not _is_table(each)]
    for name, table in values.items():
        if _is_table(table):
            lines += ["", f"[{toml.bare_or_quoted(name)}]"]
            lines += [f"{toml.bare_or_quoted(key)} = {literal(each)}" for key, each in table.items()]
    return "\n".join(lines) + "\n"


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _wrong(what: str, fix: str) -> ConfigError:
    return ConfigError(Problem("E-SWP-002", what, "sweep", fix))
