"""Adapters: what is trained. `build` is the one place that matches on the kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from impasto.adapters.config import Lora

if TYPE_CHECKING:
    from impasto.adapters.adapter import Adapter
    from impasto.adapters.targets import Target


def build(config: Lora, targets: Iterable[Target], seed: int) -> Adapter:
    """A fresh adapter on the targets that `config` chooses. Each layer's start depends on its name and `seed` alone."""
    import torch

    from impasto import dice
    from impasto.adapters.adapter import Adapter
    from impasto.adapters.lora import Layer, LoraLayer
    from impasto.adapters.targets import choose

    chosen = choose(targets, config)
    layers = {}
    for name, (target, size) in chosen.items():
        assert isinstance(target.module, Layer)
        generator = torch.Generator().manual_seed(dice.seed("init", seed, name))
        layers[name] = LoraLayer(target.module, size, config, generator)
    return Adapter(layers, {name: target.part for name, (target, _) in chosen.items()})
