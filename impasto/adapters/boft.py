"""Butterfly orthogonal fine-tuning (Liu et al. 2023, "BOFT"), in the form and with the names of LyCORIS."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from impasto.adapters.adapter import filled
from impasto.adapters.config import Boft
from impasto.adapters.layers import channels
from impasto.adapters.oft import Rotation
from impasto.adapters.targets import Layer, Seat


class BoftLayer(Rotation):
    """Rounds of rotations: round i turns together outputs that lie 2^i half blocks apart."""

    def turned(self, z: Tensor, turns: Tensor) -> Tensor:
        rounds, count, side, _ = turns.shape
        places = z.shape[:-1]
        moved = torch.zeros_like(z)
        for at in range(rounds):
            apart = 2**at * side // 2
            mixed = (z + moved).reshape(*places, -1, 2, apart).mT.reshape(*places, count, side)
            step = torch.einsum("knm,...km->...kn", turns[at], mixed)
            moved = moved + step.reshape(*places, -1, apart, 2).mT.flatten(-3)
        return moved


def fresh(config: Boft, seat: Seat, generator: torch.Generator) -> BoftLayer:
    """A layer at its start, with blocks of at most the size that the settings ask for, where that is possible."""
    side, count = butterfly(channels(seat.target.layer)[0], config.block_size)
    return BoftLayer(seat.target.layer, (count.bit_length(), count, side, side), config)


def butterfly(count: int, most: int) -> tuple[int, int]:
    """`count` as an even block side times a power of two: the largest side up to `most`, else the smallest there is."""
    assert count % 2 == 0, "an odd number of outputs has no butterfly form"
    sides, side = [], count
    while side % 2 == 0:
        sides.append(side)
        side //= 2
    side = next((each for each in sides if each <= most), sides[-1])
    return side, count // side


def from_file(base: Layer, tensors: Mapping[str, Tensor]) -> BoftLayer:
    """The layer that a file's tensors make on `base`. Raises ValueError when they do not fit."""
    rounds, count, side, _ = shape = tensors["oft_blocks"].shape
    if count * side != (out := channels(base)[0]) or side % 2:
        raise ValueError(f"oft_blocks is {tuple(shape)}, the base has {out} outputs")
    layer = BoftLayer(base, (rounds, count, side, side), Boft(rescaled="rescale" in tensors))
    return filled(layer, {"alpha": torch.zeros(()), **tensors})
