"""What a micro-batch becomes once pictures and captions are numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Conditioning = Mapping[str, Tensor]
"""What the denoiser is told, by name; dim 0 of every tensor is the example. What the words say: `ids` for tokens yet to
be encoded, `states` for encoded text, ... And `sizes` [N, 6], how the picture was made: height and width of the
original, top and left of the cut in the scaled picture, height and width of what is seen. While drawing also
`guidance` [N], which denoisers that are told one listen to. Where the settings ask for it `silent` [N, 3], 1 for each
text encoder that says nothing; `places` [N, 2], how far from top and left they are cut in 0..1 of what is left over, -1
in the middle; `scaled` [N]: places spread as those of a whole picture."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch, on the device. Dim 0 of every tensor is the example."""

    keys: tuple[str, ...]
    """The name of each visit, for its dice: (set, example, visit, epoch) as text."""

    latents: Tensor
    """[N, C, h, w], scaled as the denoiser expects them."""

    cond: Conditioning
    """The captions of this visit."""

    weight: Tensor
    """[N], how much each example's loss counts."""

    prior: tuple[bool, ...] = ()
    """[N], which examples are held to what the base alone answers, not to the picture; empty: none."""

    mask: Tensor | None = None
    """[N, 1, h, w] in 0..1, how much each place counts; None: all alike."""


def stacked(conds: Sequence[Conditioning]) -> Conditioning:
    """Conditionings of single captions, without dim 0, as one batch; shorter ones are filled with zeros, which a mask
    among them says are none."""
    return {name: _stacked([each[name] for each in conds]) for name in conds[0]}


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    longest = max(len(each) for each in tensors)
    if all(len(each) == longest for each in tensors):
        return torch.stack(list(tensors))
    filled = tensors[0].new_zeros(len(tensors), longest, *tensors[0].shape[1:])
    for row, each in zip(filled, tensors, strict=True):
        row[: len(each)] = each
    return filled
