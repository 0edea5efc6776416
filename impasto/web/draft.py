"""Settings that somebody is writing in the browser: what they say, what they come to, what is wrong with them.

Relative paths start at the first folder of pictures, as there is no file whose folder they could start at; runs live in
the first folder of runs unless the settings name another one. Nothing outside the roots is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impasto import config as settings
from impasto.checks import check, check_together
from impasto.config import RunConfig
from impasto.errors import ConfigError, Problem
from impasto.settings import fields, form, toml
from impasto.settings.source import Source
from impasto.sweeps import expand
from impasto.sweeps.config import WholeFile
from impasto.web import reach
from impasto.web.site import Site

NAME = "settings"
"""What the text is called where its lines are told."""


@dataclass(frozen=True)
class Draft:
    """A text of settings, looked through."""

    text: str
    values: dict[str, Any]
    """What it says, by dotted name."""
    changed: tuple[str, ...]
    """Names whose value is not the default."""
    config: RunConfig | None
    """What it comes to. Of a sweep: its first run. None: it does not check."""
    runs: tuple[expand.Run, ...]
    """The runs of a sweep."""
    plan: expand.Plan | None
    problems: tuple[Problem, ...]


def read(text: str, site: Site) -> Draft:
    """Look through a text."""
    try:
        given = toml.parse(text, NAME).values
    except ConfigError as error:
        return Draft(text, {}, (), None, (), None, error.problems)
    values = form.flat(given, WholeFile)
    changed = tuple(name for name, value in values.items() if not _is_usual(name, value))
    try:
        config, runs, plan = _checked(given, site)
    except ConfigError as error:
        return Draft(text, values, changed, None, (), None, error.problems)
    problems = tuple(_wrong(config, runs, site))
    return Draft(text, values, changed, config, runs, plan, problems)


def write(values: Mapping[str, Any], text: str, site: Site) -> Draft:
    """Put values by dotted name into a text, and look it through. Raises ConfigError for names that cannot be."""
    return read(form.edited(text, values, WholeFile), site)


def _checked(given: Mapping[str, Any], site: Site) -> tuple[RunConfig, tuple[expand.Run, ...], expand.Plan | None]:
    own = {name: value for name, value in given.items() if name != "sweep"}
    own["output"] = _output(own.get("output", {}), site)
    sweep = given.get("sweep")
    config = settings.build(own, (), Source(), home(site))[0]
    if isinstance(sweep, dict) and (sweep.get("axes") or sweep.get("seeds", 1) != 1):
        plan = expand.planned({**own, "sweep": sweep}, Source(), home(site))
        runs = tuple(run for run, _ in expand.drawn(plan))
        return runs[0].config, runs, plan
    if sweep:
        expand.section(sweep)
    return config, (), None


def home(site: Site) -> Path:
    """Where relative paths start."""
    return next((each.path for kind in ("data", "runs") for each in site.of(kind)), Path.cwd())


def _output(given: Any, site: Site) -> Any:
    """Runs live in the folder of runs, unless something else is said."""
    roots = site.of("runs")
    if not isinstance(given, dict) or not roots:
        return given
    folder = given.get("folder")
    if folder is None:
        return {**given, "folder": str(roots[0].path)}
    return {**given, "folder": os.path.abspath(os.path.expanduser(folder))} if isinstance(folder, str) else given


def _wrong(config: RunConfig, runs: tuple[expand.Run, ...], site: Site) -> list[Problem]:
    """What keeps it from being trained. Where a path leads outside, nothing is looked at."""
    configs = [each.config for each in runs] or [config]
    found = [problem for each in configs for problem in reach.outside(settings.leaves(each), site)]
    if not found:
        found = [problem for each in configs for problem in check(each)] + check_together(configs)
    return list(dict.fromkeys(found))


def _is_usual(name: str, value: object) -> bool:
    meant = fields.at(WholeFile, form.key_of(name))
    return any(not each.required and form.same(each.default, value) for each in meant)
