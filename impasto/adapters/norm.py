"""The difference to a norm's weight and bias, with the names of LyCORIS (`w_norm`, `b_norm`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from impasto.adapters.adapter import AdapterLayer, filled, whole_length
from impasto.adapters.rolls import Dice
from impasto.adapters.targets import Norm


class NormLayer(AdapterLayer):
    """The norm with weight + w_norm and bias + b_norm; both start as zero. It has no dropouts, as in LyCORIS."""

    def __init__(self, base: Norm) -> None:
        super().__init__()
        self.w_norm = nn.Parameter(torch.zeros(base.weight.shape))
        self.b_norm = None if base.bias is None else nn.Parameter(torch.zeros(base.bias.shape))

    @property
    def rolls(self) -> bool:
        """Whether a training visit asks for dice at all."""
        return False

    def forward(self, x: Tensor, y: Tensor, base: nn.Module, dice: Dice | None = None) -> Tensor:
        assert isinstance(base, Norm)
        if isinstance(base, nn.LayerNorm):
            plain, places = F.layer_norm(x, base.normalized_shape, eps=base.eps), self.w_norm.shape
        else:
            plain = F.group_norm(x, base.num_groups, eps=base.eps)
            places = torch.Size((-1, *(1,) * (x.ndim - 2)))  # [C, 1, 1]: channels are dim 1
        change = plain * self.w_norm.view(places)
        if self.b_norm is not None:
            change = change + self.b_norm.view(places)
        return y + change.to(y.dtype)

    def weight(self, base: nn.Module) -> Tensor:
        assert isinstance(base, Norm)
        return base.weight.float() + self.w_norm

    def bias(self, base: nn.Module) -> Tensor | None:
        own = super().bias(base)
        return own if own is None or self.b_norm is None else own + self.b_norm

    def length(self, base: nn.Module) -> Tensor:
        """Of both differences, as one."""
        return whole_length(self.parameters())

    def shrink(self, ratio: Tensor) -> None:
        """Both differences."""
        for each in self.parameters():
            each.mul_(ratio)

    def rescale(self) -> None:
        """Nothing here is derived from the tensors."""


def from_file(base: Norm, tensors: Mapping[str, Tensor]) -> NormLayer:
    """The layer that a file's tensors make on `base`. Raises ValueError when they do not fit."""
    layer = NormLayer(base)
    if layer.b_norm is not None and "b_norm" not in tensors:
        tensors = {**tensors, "b_norm": torch.zeros_like(layer.b_norm)}
    return filled(layer, tensors)
