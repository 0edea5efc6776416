"""Adapters: what is trained. `build` is the one place that matches on the kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from impasto.adapters import config as settings

if TYPE_CHECKING:
    import torch

    from impasto.adapters.adapter import Adapter, AdapterLayer
    from impasto.adapters.targets import Seat, Size, Target


def seats(config: settings.Adapter, targets: Iterable[Target]) -> list[Seat]:
    """Which of `targets` get an adapter, how large and how fast. Raises ConfigError when blocks or rules do not fit."""
    from impasto.adapters import ia3
    from impasto.adapters.targets import seats as chosen

    return chosen(ia3.choose(targets) if isinstance(config, settings.Ia3) else targets, config)


def build(
    config: settings.Adapter, targets: Iterable[Target], seed: int, sizes: Mapping[str, Size | None] | None = None
) -> Adapter:
    """A fresh adapter on the targets that `config` chooses. Each layer's start depends on its name and `seed` alone.

    With `sizes`, of a file, only the layers that are named there get one, of the size there.
    """
    from functools import partial

    import torch

    from impasto import dice
    from impasto.adapters import boft, dylora, full, glora, ia3, loha, lokr, lora, lora_fa, norm, oft
    from impasto.adapters.adapter import Adapter

    make: Callable[[Seat, torch.Generator], AdapterLayer]
    match config:
        case settings.Lora():
            make = partial(lora.fresh, config)
        case settings.LoraFa():
            make = partial(lora_fa.fresh, config)
        case settings.DyLora():
            make = partial(dylora.fresh, config)
        case settings.Loha():
            make = partial(loha.fresh, config)
        case settings.Lokr():
            make = partial(lokr.fresh, config)
        case settings.Glora():
            make = partial(glora.fresh, config)
        case settings.Ia3():
            make = partial(ia3.fresh, config)
        case settings.Full():
            make = partial(full.fresh, config)
        case settings.Oft():
            make = partial(oft.fresh, config)
        case settings.Boft():
            make = partial(boft.fresh, config)
        case _:
            assert_never(config)
    chosen = seats(config, targets)
    if sizes is not None:
        chosen = [replace(seat, size=sizes[seat.target.name]) for seat in chosen if seat.target.name in sizes]
    layers: dict[str, AdapterLayer] = {}
    for seat in chosen:
        generator = torch.Generator().manual_seed(dice.seed("init", seed, seat.target.name))
        layers[seat.target.name] = norm.NormLayer(seat.target.norm) if seat.target.is_norm else make(seat, generator)
    return Adapter(layers, {seat.target.name: seat for seat in chosen})
