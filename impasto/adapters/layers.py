"""What every kind of adapter layer needs of the layer it rides on, and the dropouts that most kinds share."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from impasto.adapters.adapter import AdapterLayer
from impasto.adapters.rolls import Dice, Rolls
from impasto.adapters.targets import Layer


def through(base: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """`x` through another weight, the way the base goes, without its bias."""
    if isinstance(base, nn.Linear):
        return F.linear(x, weight)
    return F.conv2d(x, weight, None, base.stride, base.padding, base.dilation)


def along(values: Tensor, base: Layer) -> Tensor:
    """[C] -> a shape that broadcasts over the channels of the base's inputs or outputs."""
    return values if isinstance(base, nn.Linear) else values[:, None, None]


def unbiased(y: Tensor, base: Layer) -> Tensor:
    """The base's output without its bias."""
    return y if base.bias is None else y - along(base.bias, base)


def channels(base: Layer) -> tuple[int, int]:
    """How many numbers come out of the base and go into it, at each place."""
    if isinstance(base, nn.Linear):
        return base.out_features, base.in_features
    assert base.groups == 1, "grouped convolutions are not adapted"
    return base.out_channels, base.in_channels


def exact(values: Tensor) -> torch.autocast:
    """Weights are put together in fp32, also where the base computes in 16 bits: there, small changes would vanish."""
    return torch.autocast(values.device.type, enabled=False)


class Change(AdapterLayer):
    """A kind that adds something to the layer's output: y + change, with dropouts."""

    def __init__(self, *, rank_dropout: float = 0.0, module_dropout: float = 0.0) -> None:
        super().__init__()
        self.rank_dropout = rank_dropout
        self.module_dropout = module_dropout

    @property
    def rolls(self) -> bool:
        """Whether a training visit asks for dice at all."""
        return bool(self.rank_dropout or self.module_dropout)

    @property
    def branches(self) -> bool:
        """Whether dice decide what is computed, and not only with which numbers."""
        return bool(self.module_dropout)

    def forward(self, x: Tensor, y: Tensor, base: nn.Module, dice: Dice | None = None) -> Tensor:
        assert isinstance(base, Layer)
        rolls = None if dice is None or not self.rolls else Rolls(dice, x.device)
        if rolls and self.module_dropout and rolls.sits_out(self.module_dropout):
            return y
        change = self.change(x, y, base)
        if rolls and dice is not None and self.rank_dropout:
            shape = (len(y), *(1,) * (y.ndim - 2), y.shape[-1]) if isinstance(base, nn.Linear) else (*y.shape[:2], 1, 1)
            keep = rolls.rand(shape) >= self.rank_dropout
            change = change * keep / (1 - self.rank_dropout)
        return y + change.to(y.dtype)

    @abstractmethod
    def change(self, x: Tensor, y: Tensor, base: Layer) -> Tensor:
        """What is added to the base's output `y`."""
