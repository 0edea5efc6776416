"""Adapters: what is trained. `build` is the one place that matches on the kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, assert_never

from impasto.adapters import config as settings

if TYPE_CHECKING:
    import torch

    from impasto.adapters.adapter import Adapter, AdapterLayer
    from impasto.adapters.targets import Target


def build(config: settings.Adapter, targets: Iterable[Target], seed: int) -> Adapter:
    """A fresh adapter on the targets that `config` chooses. Each layer's start depends on its name and `seed` alone."""
    from functools import partial

    import torch

    from impasto import dice
    from impasto.adapters import boft, dylora, full, glora, ia3, loha, lokr, lora, lora_fa, oft
    from impasto.adapters.adapter import Adapter
    from impasto.adapters.targets import wanted

    chosen = wanted(targets, config.targets, conv=config.convolves)
    make: Callable[[Target, torch.Generator], AdapterLayer]
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
            chosen, make = ia3.choose(chosen), partial(ia3.fresh, config)
        case settings.Full():
            make = partial(full.fresh, config)
        case settings.Oft():
            make = partial(oft.fresh, config)
        case settings.Boft():
            make = partial(boft.fresh, config)
        case _:
            assert_never(config)
    layers = {}
    for target in chosen:
        generator = torch.Generator().manual_seed(dice.seed("init", seed, target.name))
        layers[target.name] = make(target, generator)
    return Adapter(layers, {target.name: target.part for target in chosen})
