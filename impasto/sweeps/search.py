"""Let Optuna propose what a sweep tries next, from what its runs brought so far.

What was proposed stands in the sweep's state, what it brought in the runs; Optuna's own study is made anew from both
for each round. So a proposal depends on them and on the sweep's dice alone, also where a sweep was killed. The study is
kept beside them as optuna.journal, for Optuna's dashboard and whoever likes to ask it more.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from impasto import dice, files
from impasto.errors import ConfigError, Problem
from impasto.settings.source import shown
from impasto.sweeps import expand
from impasto.sweeps.axes import Axis
from impasto.sweeps.expand import Plan, Point
from impasto.sweeps.folder import State, SweepFolder
from impasto.sweeps.report import Row, report

JOURNAL = "optuna.journal"

_ASKED = 20
"""So often a proposal may be one that was tried already, before one is drawn by lot."""


def train_all(folder: SweepFolder, train: Callable[[SweepFolder], object]) -> None:
    """Train a sweep to its end: once, or round by round where each round depends on the ones before."""
    check_installed(folder.plan())
    train(folder)
    while propose(folder):
        train(folder)


def check_installed(plan: Plan) -> None:
    """Refuse a sweep that cannot go on after its first round."""
    if plan.sweep.method == "optuna" and find_spec("optuna") is None:
        fix = "`pip install 'impasto[optuna]'`, or method = \"sobol\""
        raise ConfigError(Problem("E-CFG-046", "Optuna is not installed", "sweep.method", fix))


def propose(folder: SweepFolder) -> bool:
    """Add a round of combinations to a sweep whose runs are all trained. False if it has had all of them."""
    plan = folder.plan()
    if plan.sweep.method != "optuna":
        return False
    with folder.hold():
        tried = expand.points(plan)
        study = _study(folder.path / JOURNAL, plan, tried, report(folder).rows)
        assert plan.sweep.pick is not None
        fresh = _asked(study, plan, tried, min(plan.sweep.at_a_time, plan.sweep.pick - len(tried)))
        if not fresh:
            return False
        proposed = (*plan.proposed, tuple(fresh))
        runs = expand.runs(replace(plan, proposed=proposed))
        folder.write(State(runs=tuple(each.name for each in runs), proposed=proposed))
    return True


def _study(path: Path, plan: Plan, tried: Sequence[Point], rows: Sequence[Row]) -> Any:
    """What was tried and what it brought, as Optuna's study."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    for leftover in (path, path.with_name(f"{path.name}.lock")):  # the sweep is ours, so nobody else writes there
        files.unlink(leftover)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = dice.seed("optuna", plan.sweep.dice, len(plan.proposed)) % (1 << 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, constant_liar=True)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))), sampler=sampler, study_name=plan.name
        )
    spaces = {axis.key: _space(axis) for axis in plan.axes}
    for variant, point in enumerate(tried):
        brought = [row for row in rows if row.variant == variant]
        params = {axis.key: _param(axis, point[axis.key]) for axis in plan.axes}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=spaces, **_result(brought, optuna.trial.TrialState))
        )
    return study


def _result(rows: Sequence[Row], states: Any) -> dict[str, Any]:
    """What the runs of a combination brought: a loss, or what was measured until they were stopped. One that has no
    loss that is a number counts as worst."""
    names = {"user_attrs": {"runs": [row.name for row in rows]}}
    losses = [row.loss for row in rows if row.loss is not None]
    if len(losses) < len(rows) or not rows or any(row.stage == "failed" for row in rows):
        return {"state": states.COMPLETE, "value": math.inf, **names}
    if any(row.stage == "dropped" for row in rows):
        return {"state": states.PRUNED, "intermediate_values": _means(rows), **names}
    return {"state": states.COMPLETE, "value": math.fsum(losses) / len(losses), **names}


def _means(rows: Sequence[Row]) -> dict[int, float]:
    common = set.intersection(*(set(row.losses) for row in rows))
    return {step: math.fsum(row.losses[step] for row in rows) / len(rows) for step in sorted(common)}


def _asked(study: Any, plan: Plan, tried: Sequence[Point], count: int) -> list[Point]:
    """So many new combinations, or as many as there are."""
    import optuna

    spaces = {axis.key: _space(axis) for axis in plan.axes}
    found: list[Point] = []
    for _ in range(_ASKED * (count > 0)):
        trial = study.ask(spaces)
        point = {axis.key: _value(axis, trial.params[axis.key]) for axis in plan.axes}
        if point in found or point in tried:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        found.append(point)
        if len(found) == count:
            return found
    return [*found, *_by_lot(plan, [*tried, *found], count - len(found))]


def _by_lot(plan: Plan, known: Sequence[Point], count: int) -> list[Point]:
    """Combinations that are left, where all are listed."""
    if not all(axis.values for axis in plan.axes):
        return []
    keys = [axis.key for axis in plan.axes]
    every = (dict(zip(keys, some, strict=True)) for some in product(*(axis.values for axis in plan.axes)))
    left = [point for point in every if point not in known]
    roll = random.Random(dice.seed("optuna lot", plan.sweep.dice, len(plan.proposed)))
    return roll.sample(left, min(max(count, 0), len(left)))


def _space(axis: Axis) -> Any:
    from optuna import distributions

    span = axis.range
    if axis.values or span is None:
        return distributions.CategoricalDistribution([_param(axis, each) for each in axis.values])
    if span.whole:
        return distributions.IntDistribution(int(span.low), int(span.high), log=span.log)
    return distributions.FloatDistribution(span.low, span.high, log=span.log)


def _param(axis: Axis, value: Any) -> Any:
    """A value as Optuna holds it: whole sections as text."""
    return value if isinstance(value, bool | int | float | str) else shown(value)


def _value(axis: Axis, param: Any) -> Any:
    if axis.range is not None and not axis.values:
        return axis.range.near(param)
    by: Mapping[str, Any] = {repr(_param(axis, each)): each for each in axis.values}
    return by[repr(param)]
