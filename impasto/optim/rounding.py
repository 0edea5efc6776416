"""Rounding fp32 to bf16 by dice: what is too small for one step is not lost, only late."""

from __future__ import annotations

import torch
from torch import Tensor

LOST = 16
"""Bits of an fp32 number that bf16 has no room for."""


def stochastic(values: Tensor, generator: torch.Generator) -> Tensor:
    """fp32 -> bf16, up or down with the chances that make the mean of many roundings the value itself.

    (Gupta et al. 2015, section 3; Zamirai et al. 2020 for bf16.) A value that bf16 holds comes back as it is. bf16 is
    the upper half of fp32, so a random number added to the lower half carries over as often as it should; the sign is
    apart, so this holds on both sides of zero.
    """
    dice = torch.randint(1 << LOST, values.shape, dtype=torch.int32, generator=generator, device=values.device)
    bits = dice.add_(values.view(torch.int32)).bitwise_and_(-1 << LOST)
    rounded = bits.view(torch.float32).to(torch.bfloat16)
    return torch.where(values.isfinite(), rounded, values.to(torch.bfloat16))
