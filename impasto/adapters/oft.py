"""Orthogonal fine-tuning with a block-diagonal rotation (Qiu et al. 2023), in the form and with the names of LyCORIS.

A block's rotation is the Cayley transform R = (I + Q)(I - Q)^-1 of Q = X - Xᵀ. What is computed is R - I =
2 (I - Q)^-1 Q, so that a small turn is not lost beside the ones of I.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from impasto.adapters.adapter import filled
from impasto.adapters.config import Boft, Oft
from impasto.adapters.layers import Change, channels, exact, unbiased
from impasto.adapters.lokr import factorization
from impasto.adapters.targets import Layer, Seat

TINY = 1e-8


class Rotation(Change):
    """Turns the layer's outputs, apart from their bias, and on request scales each of them. X starts as zero."""

    names: ClassVar = {"factors": "rescale"}

    def __init__(self, base: Layer, blocks: tuple[int, ...], config: Oft | Boft) -> None:
        super().__init__(module_dropout=config.module_dropout)
        out, _ = channels(base)
        self.oft_blocks = nn.Parameter(torch.zeros(blocks))
        self.factors = (
            nn.Parameter(torch.ones(out, *(1,) * (base.weight.ndim - 1))) if config.rescaled else None
        )  # [O, 1, ...]
        self.register_buffer("alpha", torch.tensor(config.constraint))
        self.alpha: Tensor
        self.longest = config.constraint * out

    def change(self, x: Tensor, y: Tensor, base: Layer) -> Tensor:
        with exact(y):
            turns = self.turns()
        plain = unbiased(y, base)
        if isinstance(base, nn.Linear):
            return self._moved(plain, turns)
        return self._moved(plain.movedim(1, -1), turns).movedim(-1, 1)

    def weight(self, base: nn.Module) -> Tensor:
        assert isinstance(base, Layer)
        rows = base.weight.float().movedim(0, -1)  # [I, ...kernel, O]
        return (rows + self._moved(rows, self.turns())).movedim(-1, 0)

    def rescale(self) -> None:
        """Take the limit from the file: it is kept as a share of the layer's outputs."""
        *_, count, side, _ = self.oft_blocks.shape
        self.longest = float(self.alpha) * count * side

    def turns(self) -> Tensor:
        """R - I of each block."""
        blocks = self.oft_blocks.float()
        skew = blocks - blocks.mT
        if self.longest > 0:
            skew = skew * (self.longest / (torch.linalg.vector_norm(skew) + TINY)).clamp(max=1.0)
        unit = torch.eye(skew.shape[-1], device=skew.device)
        solved: Tensor = torch.linalg.solve(unit - skew, skew)
        return 2 * solved

    @abstractmethod
    def turned(self, z: Tensor, turns: Tensor) -> Tensor:
        """[..., O] -> by how much turning moves it."""

    def _moved(self, z: Tensor, turns: Tensor) -> Tensor:
        moved = self.turned(z, turns)
        if self.factors is None:
            return moved
        factors = self.factors.float().flatten()
        return (factors - 1) * z + factors * moved


class OftLayer(Rotation):
    """Neighbouring outputs are turned together, in blocks of one size."""

    def turned(self, z: Tensor, turns: Tensor) -> Tensor:
        blocks = z.reshape(*z.shape[:-1], *turns.shape[:2])
        return torch.einsum("knm,...kn->...km", turns, blocks).flatten(-2)


def fresh(config: Oft, seat: Seat, generator: torch.Generator) -> OftLayer:
    """A layer at its start, with blocks of about the size that the settings ask for."""
    side, count = factorization(channels(seat.target.layer)[0], config.block_size)
    return OftLayer(seat.target.layer, (count, side, side), config)


def from_file(base: Layer, tensors: Mapping[str, Tensor]) -> OftLayer:
    """The layer that a file's tensors make on `base`. Raises ValueError when they do not fit."""
    count, side, _ = shape = tensors["oft_blocks"].shape
    if count * side != (out := channels(base)[0]):
        raise ValueError(f"oft_blocks is {tuple(shape)}, the base has {out} outputs")
    layer = OftLayer(base, (count, side, side), Oft(rescaled="rescale" in tensors))
    return filled(layer, {"alpha": torch.zeros(()), **tensors})
