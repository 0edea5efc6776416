"""Optimizers: how an adapter's numbers are moved. `build` is the one place that matches on the kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from impasto.optim import config as settings

if TYPE_CHECKING:
    from impasto.optim.flat import FlatParameters
    from impasto.optim.optimizers import Optimizer, Rule


def build(config: settings.Optim, flat: FlatParameters) -> Optimizer:
    """The optimizer of a member over its flat parameters, with a fresh state."""
    from impasto.optim.optimizers import Optimizer

    return Optimizer(flat, _rule(config.optimizer, flat), clip=config.clip)


def check(config: settings.Optim) -> None:
    """Raise ConfigError if an optimizer of a library is not there, or not as its settings want it."""
    if isinstance(config.optimizer, settings.Library):
        from impasto.optim import named

        named.check(config.optimizer)


def _rule(config: settings.Optimizer, flat: FlatParameters) -> Rule:
    from impasto.optim import fused

    match config:
        case settings.AdamW():
            return fused.adamw(flat, config)
        case settings.Sgd():
            return fused.sgd(flat, config)
    from impasto.optim import named, zoo  # the library they come from takes a second to load

    match config:
        case settings.AdamW8bit():
            return zoo.adamw_8bit(flat, config)
        case settings.Lion():
            return zoo.lion(flat, config)
        case settings.Adafactor():
            return zoo.adafactor(flat, config)
        case settings.Prodigy():
            return zoo.prodigy(flat, config)
        case settings.DAdaptation():
            return zoo.d_adaptation(flat, config)
        case settings.ScheduleFree():
            return zoo.schedule_free(flat, config)
        case settings.Came():
            return zoo.came(flat, config)
        case settings.Muon():
            return zoo.muon(flat, config)
        case settings.Library():
            return named.rule(flat, config)
        case _:
            assert_never(config)
