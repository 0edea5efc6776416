"""Kinds that add a weight of their own to the base's, whatever the base's is: LoHa, LoKr."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from impasto.adapters import dora
from impasto.adapters.layers import Change, exact, through
from impasto.adapters.targets import Layer


class Added(Change):
    """(W + delta) x, on request with rows of learned length (DoRA)."""

    def __init__(self, base: Layer, alpha: float, *, decompose: bool, rank_dropout: float, module_dropout: float):
        super().__init__(rank_dropout=rank_dropout, module_dropout=module_dropout)
        self.register_buffer("alpha", torch.tensor(alpha))
        self.alpha: Tensor
        self.dora_scale = dora.scale_of(base) if decompose else None

    @abstractmethod
    def delta(self) -> Tensor:
        """What is added to the base's weight, in its shape, fp32."""

    def change(self, x: Tensor, y: Tensor, base: Layer) -> Tensor:
        added = self.added(x, base)
        if self.dora_scale is None:
            return added
        with exact(x), torch.no_grad():
            merged = base.weight.float() + self.delta()
        return dora.change(added, y, base, dora.growth(self.dora_scale, merged))

    def added(self, x: Tensor, base: Layer) -> Tensor:
        """`x` through delta. Kinds that need not build all of delta for it do it their own way."""
        with exact(x):
            delta = self.delta()
        return through(base, x, delta)

    def weight(self, base: nn.Module) -> Tensor:
        assert isinstance(base, Layer)
        merged = base.weight.float() + self.delta()
        return merged if self.dora_scale is None else merged * dora.growth(self.dora_scale, merged)
