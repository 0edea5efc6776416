"""The full difference to a weight and its bias, with the names of LyCORIS (`diff`, `diff_b`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from impasto.adapters.adapter import filled, whole_length
from impasto.adapters.config import Full
from impasto.adapters.layers import Change, along, through
from impasto.adapters.targets import Layer, Seat


class FullLayer(Change):
    """(W + diff) x + b + diff_b; both start as zero. `diff_b` only where the base has a bias."""

    def __init__(self, base: Layer, *, module_dropout: float = 0.0) -> None:
        super().__init__(module_dropout=module_dropout)
        self.diff = nn.Parameter(torch.zeros(base.weight.shape))
        self.diff_b = None if base.bias is None else nn.Parameter(torch.zeros(base.bias.shape))

    def change(self, x: Tensor, y: Tensor, base: Layer) -> Tensor:
        change = through(base, x, self.diff)
        return change if self.diff_b is None else change + along(self.diff_b, base)

    def weight(self, base: nn.Module) -> Tensor:
        assert isinstance(base, Layer)
        return base.weight.float() + self.diff

    def bias(self, base: nn.Module) -> Tensor | None:
        own = super().bias(base)
        return own if own is None or self.diff_b is None else own + self.diff_b

    def length(self, base: nn.Module) -> Tensor:
        """Of both differences, as one."""
        return whole_length(self.parameters())

    def shrink(self, ratio: Tensor) -> None:
        """Both differences."""
        for each in self.parameters():
            each.mul_(ratio)

    def rescale(self) -> None:
        """Nothing here is derived from the tensors."""


def fresh(config: Full, seat: Seat, generator: torch.Generator) -> FullLayer:
    """A layer at its start."""
    return FullLayer(seat.target.layer, module_dropout=config.module_dropout)


def from_file(base: Layer, tensors: Mapping[str, Tensor]) -> FullLayer:
    """The layer that a file's tensors make on `base`. Raises ValueError when they do not fit."""
    layer = FullLayer(base)
    if layer.diff_b is not None and "diff_b" not in tensors:
        tensors = {**tensors, "diff_b": torch.zeros_like(layer.diff_b)}
    return filled(layer, tensors)
