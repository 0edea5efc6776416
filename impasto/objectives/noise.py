"""The noise an example is hidden in: keyed dice, one generator an example."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from impasto import dice


def gaussian(keys: Sequence[str], shape: Sequence[int], *, seed: int) -> Tensor:
    """Standard normal noise of `shape` [C, h, w] for each key, fp32 [N, C, h, w] on the host.

    Each example has a host generator of its own, so its noise depends on `seed`, its key and its shape alone: not on
    its neighbours, the batch size or the device.
    """
    noise = torch.empty(len(keys), *shape)
    for row, key in zip(noise, keys, strict=True):
        torch.randn(*shape, generator=torch.Generator().manual_seed(dice.seed("noise", seed, key)), out=row)
    return noise
