"""A picture in overlapping tiles, one after another: memory of one tile, whatever the size of the picture.

A picture encoder looks at all of a picture, in its norms and in the attention in its middle; a tile sees only itself.
So the result is near that of the whole picture and not the same. Where tiles overlap, each counts the less the nearer
its own edge is, and no seam is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor

OVERLAP = 4
"""Tiles share one part in so many with the next one, at least."""

Compute = Callable[[Tensor], tuple[Tensor, ...]]


def tiled(compute: Compute, x: Tensor, *, tile: int, unit: int = 1, factor: int = 1) -> tuple[Tensor, ...]:
    """What `compute` makes of [N, C, H, W], put together from tiles of `tile` places a side.

    Tiles begin at multiples of `unit` places, and an answer has `factor / unit` times as many places a side: encoding
    has the unit 8 and the factor 1, decoding the unit 1 and the factor 8.
    """
    height, width = x.shape[-2:]
    found: list[Tensor] = []
    counted = torch.zeros(height // unit * factor, width // unit * factor, device=x.device)
    for top in starts(height // unit, tile // unit):
        for left in starts(width // unit, tile // unit):
            part = x[..., top * unit : top * unit + tile, left * unit : left * unit + tile]
            answers = compute(part)
            weight = _faded(answers[0].shape[-2], x.device)[:, None] * _faded(answers[0].shape[-1], x.device)
            rows = slice(top * factor, top * factor + weight.shape[0])
            columns = slice(left * factor, left * factor + weight.shape[1])
            found = found or [each.new_zeros(*each.shape[:-2], *counted.shape) for each in answers]
            for whole, each in zip(found, answers, strict=True):
                whole[..., rows, columns] += each * weight
            counted[rows, columns] += weight
    return tuple(each / counted for each in found)


def starts(length: int, tile: int) -> list[int]:
    """Where tiles begin that cover `length` and overlap by a quarter or more."""
    if length <= tile:
        return [0]
    count = ceil((length - tile) / (tile - tile // OVERLAP)) + 1
    return [round(at * (length - tile) / (count - 1)) for at in range(count)]


def _faded(length: int, device: torch.device) -> Tensor:
    """[length]: 1 in the middle, falling to the edges over what tiles share."""
    edge = max(1, length // OVERLAP)
    near = torch.minimum(torch.arange(1, length + 1), torch.arange(length, 0, -1)).to(device)
    return (near / edge).clamp(max=1.0)
