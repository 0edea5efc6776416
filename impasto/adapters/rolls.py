"""Random numbers inside a layer, from the seed of a visit.

A seed is a number, or a tensor with one where the layer is part of a compiled graph: there a generator cannot be made,
so an operator of its own stands for the whole of it, and the graph is the same for every seed. Both give the same
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

Dice = int | Tensor
"""The seed of a layer's visit."""


class PartOf(int):
    """The seed of a layer for some examples of a micro-batch, whose others another rank computes: they are to get what
    they would get among the others."""

    def __new__(cls, seed: int, before: int, share: float) -> PartOf:
        """`before`: rows of the layer that belong to examples before these; `share`: how much of all rows these are."""
        made = super().__new__(cls, seed)
        made.before, made.share = before, share
        return made

    before: int
    share: float


class Rolls:
    """The numbers that a seed gives, one draw after the other."""

    def __init__(self, dice: Dice, device: torch.device) -> None:
        self._device = device
        self._seed = dice if isinstance(dice, Tensor) else None
        self._before: list[int] = []
        self._stream = None if isinstance(dice, Tensor) else torch.Generator(device).manual_seed(dice)
        self._dice = dice

    def rand(self, shape: Sequence[int]) -> Tensor:
        """Uniform in 0..1; dim 0 are the rows of the layer that the seed is for."""
        if isinstance(self._dice, PartOf):
            rows = shape[0]
            every = (round(rows / self._dice.share), *shape[1:])
            whole = torch.rand(every, generator=self._stream, device=self._device)
            return whole[self._dice.before : self._dice.before + rows]
        if self._stream is not None:
            return torch.rand(tuple(shape), generator=self._stream, device=self._device)
        drawn: Tensor = _drawn(self._seed, self._before, list(shape), self._device)
        self._before = [*self._before, prod(shape)]
        return drawn

    def sits_out(self, share: float) -> bool:
        """One roll without touching the device's stream: the seed itself is the dice."""
        assert isinstance(self._dice, int), "what branches is not compiled"
        return torch.rand((), generator=torch.Generator().manual_seed(self._dice)).item() < share


@torch.library.custom_op("impasto::drawn", mutates_args=())
def _drawn(seed: Tensor, before: list[int], shape: list[int], device: torch.device) -> Tensor:
    """What a generator gives after it gave so many numbers."""
    stream = torch.Generator(device).manual_seed(int(seed))
    for count in before:
        torch.rand(count, generator=stream, device=device)
    return torch.rand(shape, generator=stream, device=device)


@_drawn.register_fake
def _(seed: Tensor, before: list[int], shape: list[int], device: torch.device) -> Tensor:
    return torch.empty(shape, device=device)
