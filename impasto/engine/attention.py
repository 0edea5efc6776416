"""Which kernel computes attention. Every base asks PyTorch's one function for it, so this holds for all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import attention
from torch.nn.attention import SDPBackend

from impasto.engine.config import Attention
from impasto.errors import DeviceError, Problem

FLASH, EFFICIENT, CUDNN, MATH = (
    SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH,
)  # fmt: skip
ORDERS = {
    "flash": (FLASH, EFFICIENT, MATH),
    "flash-3": (FLASH, EFFICIENT, MATH),
    "flash-4": (FLASH, EFFICIENT, MATH),
    "cudnn": (CUDNN, EFFICIENT, MATH),
    "efficient": (EFFICIENT, MATH),
    "math": (MATH,),
}
"""The kernel that is asked for, and those that may do what it cannot, as with a mask or very wide heads."""

INSTALLED = {"flash-3": "FA3", "flash-4": "FA4"}
"""What PyTorch calls kernels that come from packages of their own."""


@contextmanager
def chosen(kernel: Attention, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Attention computes with this kernel for as long as the `with` lasts. Raises DeviceError where it cannot."""
    if kernel == "auto":
        yield
        return
    name = INSTALLED.get(kernel)
    try:
        if name is not None:
            attention.activate_flash_attention_impl(name)
        _try(ORDERS[kernel][0], device, dtype)
    except (RuntimeError, ImportError, ValueError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        what = f"attention cannot be computed by {kernel} on {device}: {reason}"
        raise DeviceError(Problem("E-DEV-003", what, "speed.attention", 'attention = "auto"')) from None
    try:
        with attention.sdpa_kernel(list(ORDERS[kernel]), set_priority=True):
            yield
    finally:
        if name is not None:
            attention.restore_flash_attention_impl()


def _try(kernel: SDPBackend, device: torch.device, dtype: torch.dtype) -> None:
    """Both passes of a small attention, by this kernel and no other."""
    x = torch.zeros(1, 1, 64, 64, device=device, dtype=dtype, requires_grad=True)
    with attention.sdpa_kernel(kernel):
        nn.functional.scaled_dot_product_attention(x, x, x).sum().backward()  # type: ignore[no-untyped-call]
