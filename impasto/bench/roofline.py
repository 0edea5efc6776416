"""What a step must compute, and how fast this machine multiplies matrices: how near a step is to what is possible."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

SIDES = (512, 1024, 2048)
SECONDS = 0.3
"""For which products of one size are repeated."""


@dataclass(frozen=True)
class Work:
    """Floating-point operations of a step (a multiplication and an addition are two)."""

    forward: float
    """Of the frozen base."""

    backward: float
    """Of the gradients of the base's activations."""

    adapter: float
    """Of the adapter, forward and backward."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.forward + self.backward + self.adapter


def counted(plain: Callable[[], object], ridden: Callable[[], object], learnt: Callable[[], object]) -> Work:
    """Count `plain`, a forward pass of the base alone, `ridden`, one with the adapter, and `learnt`, which also goes
    back. The adapter's way back is twice its way forth: of each product, the gradients of both factors."""
    with torch.no_grad():
        base, both = _count(plain), _count(ridden)
    adapter = 3 * (both - base)
    return Work(base, max(_count(learnt) - base - adapter, 0.0), adapter)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the best matrix product among a few sizes."""
    return max(_rate(side, device, dtype) for side in SIDES)


def _rate(side: int, device: torch.device, dtype: torch.dtype) -> float:
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    best, until = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < until or best == float("inf"):
        _wait(device)
        begun = time.perf_counter()
        torch.mm(a, b, out=out)
        _wait(device)
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _count(act: Callable[[], object]) -> float:
    aten = torch.ops.aten
    of_cpu: dict[Any, Any] = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_back,
    }
    with FlopCounterMode(display=False, custom_mapping=of_cpu) as counter:
        act()
    return float(counter.get_total_flops())


def _attention(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_flop_count(q, k, v))  # type: ignore[no-untyped-call]


def _attention_back(grad: Any, q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_backward_flop_count(grad, q, k, v))  # type: ignore[no-untyped-call]


def size(tensors: list[Tensor]) -> int:
    """How many numbers there are."""
    return sum(prod(each.shape) for each in tensors)
