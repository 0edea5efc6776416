"""LoRA with a frozen `down` (Zhang et al. 2023, "LoRA-FA"), in files like any LoRA."""

from __future__ import annotations

import math

import torch
from torch import nn

from impasto.adapters.config import LoraFa
from impasto.adapters.layers import channels
from impasto.adapters.lora import LoraLayer
from impasto.adapters.targets import Layer, Seat, Size


class LoraFaLayer(LoraLayer):
    """y + alpha / rank * up(down(x)); `down` is drawn from N(0, 2 / (inputs + rank)) and stays so."""

    def __init__(self, base: Layer, size: Size, config: LoraFa, generator: torch.Generator) -> None:
        super().__init__(
            base, size, generator,
            dropout=config.dropout, rank_dropout=config.rank_dropout, module_dropout=config.module_dropout,
        )  # fmt: skip
        std = math.sqrt(2 / (channels(base)[1] + size.rank))
        _freeze(self.lora_down, torch.empty_like(self.lora_down.weight).normal_(std=std, generator=generator))

    def shrink(self, ratio: torch.Tensor) -> None:
        """`up` alone: `down` is frozen."""
        self.lora_up.weight.mul_(ratio)


def fresh(config: LoraFa, seat: Seat, generator: torch.Generator) -> LoraFaLayer:
    """A layer at its start."""
    return LoraFaLayer(seat.target.layer, seat.sized, config, generator)


def _freeze(module: nn.Module, weight: torch.Tensor) -> None:
    """Saved and moved with the module, but nothing to train."""
    del module.weight
    module.register_buffer("weight", weight.detach())
