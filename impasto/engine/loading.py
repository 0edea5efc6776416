"""A base ready to be trained on, and members before their first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from impasto import adapters, families, objectives
from impasto.config import RunConfig
from impasto.engine.device import Compute
from impasto.engine.member import Member, trained
from impasto.engine.trainer import Trainer
from impasto.errors import ConfigError, Problem
from impasto.families import eight_products
from impasto.families.card import Card
from impasto.families.family import Family
from impasto.weights import layouts, starting
from impasto.weights.merge import by_layer, merge_into_part, mergeable


def base(configs: Sequence[RunConfig], card: Card, compute: Compute) -> Family:
    """The base that all of these runs share, each part in memory while it is used.

    Raises ConfigError before anything is read where one of them does not go with it.
    """
    model = configs[0].model
    finish = partial(merge_into_part, merged=model.merged, base=families.outline(card))
    family = families.lend(
        card, model, device=compute.device, dtype=compute.dtype, finish=finish, on_host=configs[0].device.shard_base
    )
    mergeable(family.targets(), model.merged)
    for config in configs:
        objectives.build(config.objective, family.process, config.train.seed)
        _has_layers(config, family)
    return family


def rest(config: RunConfig, trainer: Trainer) -> None:
    """What is done to the base once all members are built: they may want to know the numbers they ride on."""
    if config.speed.products == "fp8":
        eight_products.use(trainer.family.lending.denoiser.module, trainer.compute.device)
    if count := config.model.blocks_to_swap:
        trainer.family.lending.let_blocks_wait(count, trainer.compute.device)
    if config.device.shard_base:
        trainer.shard()


def member(
    config: RunConfig, family: Family, compute: Compute, total: int, saved: Mapping[str, Tensor] | None = None
) -> tuple[Member, list[str]]:
    """A run's member before its first step, and what there is to tell of its start.

    Parts whose learning rate is 0 have no adapter at all. `saved` is the adapter in the run's checkpoint, if it has
    one: it decides the sizes where a file did, which may be gone.
    """
    start, sizes, begun = config.adapter.start, None, None
    if start is not None:
        begun = layouts.load(start.path, family.targets()) if saved is None else by_layer(saved)
        sizes = starting.sizes(start.path, begun) if start.sizes == "file" else None
    adapter = adapters.build(config.adapter, trained(config, family.targets()), config.train.seed, sizes)
    notes = list(starting.take_over(adapter, start.path, begun)) if start and begun and saved is None else []
    objective = objectives.build(config.objective, family.process, config.train.seed)
    adapter = adapter.to(compute.device)
    return Member(config, adapter, objective, total, scaled=compute.scaled), notes


def _has_layers(config: RunConfig, family: Family) -> None:
    """Raise ConfigError when blocks or rules do not fit this base, or leave no layer to train."""
    if not adapters.seats(config.adapter, trained(config, family.targets())):
        what, fix = "no layer gets an adapter: nothing would be trained", "see `impasto layers` and open some"
        raise ConfigError(Problem("E-CFG-134", what, "adapter", fix))
