"""Matrix products in 8 bits, both ways, for layers of a frozen base that are held in fp8.

A layer's inputs are rounded to e4m3 row by row, each row (a token) by its largest number, and so are the gradients on
their way back; weights are as they are held, with a scale for each output. This is what GPUs from Ada and Hopper on
multiply at twice the rate of bf16 (Micikevicius et al. 2022, "FP8 formats for deep learning"). Only steps of a training
compute so: previews, measurements and proofs are made with plain products.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from impasto.errors import DeviceError, Problem
from impasto.families.quantized import E4M3_LARGEST, QuantizedLinear

SIDES = 16
"""Sides of a matrix that GPUs multiply in 8 bits are multiples of this."""


def use(layers: nn.Module, device: torch.device) -> int:
    """Let all linear layers within `layers` that can be multiplied so; returns how many can.

    Raises DeviceError (exit code 5) where the device has no such products.
    """
    _try(device)
    found = [each for each in layers.modules() if isinstance(each, QuantizedLinear) and _fits(each)]
    for each in found:
        each.fast = product, way_back
    return len(found)


def product(x: Tensor, numbers: Tensor, scale: Tensor) -> Tensor:
    """x Wᵀ: `x` [..., I], `numbers` [O, I] in e4m3, `scale` [O, 1] -> [..., O]."""
    rows, by = _rounded(x.reshape(-1, x.shape[-1]))
    made = torch._scaled_mm(rows, numbers.t(), scale_a=by, scale_b=scale.t().contiguous(), out_dtype=torch.bfloat16)
    return made.view(*x.shape[:-1], len(numbers)).to(x.dtype)


def way_back(grad: Tensor, numbers: Tensor, scale: Tensor) -> Tensor:
    """g W: `grad` [..., O] -> [..., I]. Scales of outputs go to the gradient, since the sum runs over them."""
    rows, by = _rounded(grad.reshape(-1, grad.shape[-1]) * scale.view(-1).to(grad.dtype))
    across = numbers.t().contiguous().t()  # the same numbers, as they must lie
    ones = torch.ones(1, numbers.shape[1], device=grad.device)
    made = torch._scaled_mm(rows, across, scale_a=by, scale_b=ones, out_dtype=torch.bfloat16)
    return made.view(*grad.shape[:-1], numbers.shape[1]).to(grad.dtype)


# -- what is below serves the above ----------------------------------------------------------------------------------


def _rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """[M, N] in e4m3, and [M, 1] what its numbers are to be multiplied by."""
    wide = rows.float()
    by = (wide.abs().amax(1, keepdim=True) / E4M3_LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
    return (wide / by).clamp(-E4M3_LARGEST, E4M3_LARGEST).to(torch.float8_e4m3fn), by


def _fits(layer: QuantizedLinear) -> bool:
    in_8_bits = layer.numbers.dtype == torch.float8_e4m3fn
    return in_8_bits and layer.in_features % SIDES == 0 == layer.out_features % SIDES


def _try(device: torch.device) -> None:
    try:
        numbers = torch.ones(SIDES, SIDES, device=device).to(torch.float8_e4m3fn)
        product(torch.ones(SIDES, SIDES, device=device), numbers, torch.ones(SIDES, 1, device=device))
    except (RuntimeError, NotImplementedError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        fix = 'products = "plain"; GPUs have them from Ada (RTX 4000) and Hopper on'
        raise DeviceError(
            Problem("E-DEV-004", f"{device} does not multiply in 8 bits: {reason}", "speed.products", fix)
        ) from None
