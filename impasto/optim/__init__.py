"""Optimizers: how an adapter's numbers are moved. `build` is the one place that matches on the kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from impasto.optim import config as settings

if TYPE_CHECKING:
    from impasto.optim.flat import FlatParameters
    from impasto.optim.optimizers import Optimizer


def build(config: settings.Optim, flat: FlatParameters) -> Optimizer:
    """The optimizer of a member over its flat parameters, with a fresh state."""
    from impasto.optim import optimizers

    match config.optimizer:
        case settings.AdamW():
            rule = optimizers.adamw(flat, config.optimizer)
        case _:
            assert_never(config.optimizer)
    return optimizers.Optimizer(flat, rule, clip=config.clip)
