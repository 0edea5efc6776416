"""Objectives: what the training tries to do. `build` is the one place that matches on the kinds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, assert_never

from impasto.errors import ConfigError, Problem
from impasto.objectives import config as settings

if TYPE_CHECKING:
    from impasto.objectives.objective import DrawTimesteps, Measure, Objective
    from impasto.objectives.process import Process


def build(config: settings.Objective, process: Process, seed: int) -> Objective:
    """The objective of a member with dice `seed`, over its family's process.

    Raises ConfigError if timesteps are asked for that the process does not have.
    """
    from impasto.objectives.objective import Objective

    return Objective(process, seed, _timesteps(config.timesteps, process, seed), _loss(config.loss))


def _timesteps(config: settings.Timesteps, process: Process, seed: int) -> DrawTimesteps:
    from impasto.objectives import timesteps

    if config.high > process.steps:
        what = f"timesteps up to {config.high} are asked for, and the base has {process.steps}"
        raise ConfigError(Problem("E-CFG-120", what, "objective.timesteps.high", f"set it to {process.steps} or less"))
    match config:
        case settings.Uniform():
            return partial(timesteps.uniform, low=config.low, high=config.high, seed=seed)
        case _:
            assert_never(config)


def _loss(config: settings.Loss) -> Measure:
    from impasto.objectives import losses

    match config:
        case settings.MeanSquared():
            return losses.mean_squared
        case _:
            assert_never(config)
