"""Low-rank products of several members at once, each on its own share of the rows: a few matrix products for all.

Written out for the way back too, where autograd would visit each member's every factor in turn. Of members whose
numbers lie side by side in one matrix, a layer's factors are a view of it, and so are their gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Scale = float | Tensor
"""What a product is multiplied by; [K, 1, 1] where it is not the same for all members."""


def joint(
    downs: Sequence[Tensor], ups: Sequence[Tensor], scales: Callable[[], Sequence[float]]
) -> Callable[[Tensor, Tensor], Tensor]:
    """What gives y + scale * up(down(x)) for `x` [K * N, ..., I] and `y` [K * N, ..., O], whose rows are equal shares
    of K members with `downs` [rank, I] and `ups` [O, rank]; good for as long as these stay where they are and learn, or
    do not, as now.

    Of a 1x1 convolution, rows are [K * N, I, H, W] and factors have two more sides of 1. Ranks may differ: smaller ones
    are filled up with zeros, which add nothing and learn nothing.
    """
    tracing = torch.compiler.is_compiling()  # then nothing lies anywhere, and a graph keeps to autograd's ways
    together = (None, None) if tracing else (_side_by_side(downs), _side_by_side(ups))
    known: dict[tuple[float, ...], Scale] = {}

    def joined(x: Tensor, y: Tensor) -> Tensor:
        now = tuple(scales())
        if now not in known:
            known[now] = _scale(now, y.device)
        down, up = together
        if down is None or up is None or torch.compiler.is_compiling():
            return added(y, x, _stacked(downs, 0), _stacked(ups, 1), known[now])
        factor = down.values
        if (down.learns or up.learns) and not (x.requires_grad or y.requires_grad):
            factor = factor.detach().requires_grad_()  # else nobody would come back here
        return added(y, x, factor, up.values, known[now], down.grads, up.grads)

    return joined


def added(
    y: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: Scale,
    grad_of_down: Tensor | None = None, grad_of_up: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The same for factors [K, rank, I] and [K, O, rank]. Given tensors to add their gradients to, the factors get none
    from autograd.

    In `y`'s precision, as autocast would; gradients of the factors in theirs.
    """
    kind = y.device.type
    if x.dtype != y.dtype or down.dtype != y.dtype:
        down, up, x = down.to(y.dtype), up.to(y.dtype), x.to(y.dtype)
    product = _Convolved if y.ndim == 4 else _Multiplied
    with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
        found: Tensor = product.apply(y, x, down, up, scale, grad_of_down, grad_of_up)  # type: ignore[no-untyped-call]
    return found


class _Multiplied(torch.autograd.Function):
    """Of linear layers. Products with a short side are fast where the long one is in one piece: `wide` is `up` so."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: Scale,
        grad_of_down: Tensor | None, grad_of_up: Tensor | None,
    ) -> Tensor:  # fmt: skip
        count = len(down)
        rows, wide = _shares(x, count), up.mT.contiguous()  # [K, rows, I], [K, rank, O]
        low = torch.bmm(rows, down.mT).mul_(scale)  # [K, rows, rank]
        out = torch.baddbmm(_shares(y, count), low, wide)
        ctx.save_for_backward(rows, low, down, wide)
        ctx.rest = count, x.shape, scale, grad_of_down, grad_of_up
        return _shaped(out, y.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, down, wide = ctx.saved_tensors
        count, shape, scale, grad_of_down, grad_of_up = ctx.rest
        flat = _shares(grads[0], count)
        back = torch.bmm(flat, wide.mT).mul_(scale)  # [K, rows, rank]
        of_x = _shaped(torch.bmm(back, down), shape) if ctx.needs_input_grad[1] else None
        of_down, of_up = torch.bmm(back.mT, rows), torch.bmm(low.mT, flat).mT
        return grads[0], of_x, _kept(of_down, grad_of_down), _kept(of_up, grad_of_up), None, None, None


class _Convolved(torch.autograd.Function):
    """Of 1x1 convolutions: each row is a matrix [I, H * W], and has factors of its own."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: Scale,
        grad_of_down: Tensor | None, grad_of_up: Tensor | None,
    ) -> Tensor:  # fmt: skip
        each = len(x) // len(down)
        own, wide, scale = _repeated(down, each), _repeated(up.mT.contiguous(), each), _repeated(scale, each)
        rows = x.flatten(2)  # [K * N, I, H * W]
        low = torch.bmm(own, rows).mul_(scale)  # [K * N, rank, H * W]
        ctx.save_for_backward(rows, low, own, wide)
        ctx.rest = x.shape, len(down), scale, grad_of_down, grad_of_up
        return torch.baddbmm(y.flatten(2), wide.mT, low).view(y.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, own, wide = ctx.saved_tensors
        shape, count, scale, grad_of_down, grad_of_up = ctx.rest
        flat = grads[0].flatten(2)
        back = torch.bmm(wide, flat).mul_(scale)  # [K * N, rank, H * W]
        of_x = torch.bmm(own.mT, back).view(shape) if ctx.needs_input_grad[1] else None
        of_down, of_up = _summed(torch.bmm(back, rows.mT), count), _summed(torch.bmm(low, flat.mT), count).mT
        return grads[0], of_x, _kept(of_down, grad_of_down), _kept(of_up, grad_of_up), None, None, None


def _kept(grad: Tensor, place: Tensor | None) -> Tensor | None:
    """A gradient for autograd; none once it is added to where it belongs."""
    if place is None:
        return grad
    place.add_(grad)
    return None


@dataclass(frozen=True)
class _Rows:
    """Factors of K members in one memory: views [K, ...] of all of them."""

    values: Tensor
    grads: Tensor | None
    """None if they learn nothing."""

    @property
    def learns(self) -> bool:
        return self.grads is not None


def _side_by_side(factors: Sequence[Tensor]) -> _Rows | None:
    """Factors that lie evenly spaced in one memory, and so do their gradients; without the sides of 1 that those of a
    convolution have. None if they do not."""
    values = _view(factors)
    if values is None or len({each.requires_grad for each in factors}) > 1:
        return None
    if not factors[0].requires_grad:
        return _Rows(values, None)
    grads = [each.grad for each in factors if each.grad is not None]
    found = _view(grads) if len(grads) == len(factors) else None
    return None if found is None else _Rows(values, found)


def _view(tensors: Sequence[Tensor]) -> Tensor | None:
    first, places = tensors[0], [each.storage_offset() for each in tensors]
    steps = {after - before for before, after in pairwise(places)}
    memory = {(each.untyped_storage().data_ptr(), each.shape, each.dtype) for each in tensors}
    if len(memory) > 1 or len(steps) != 1 or min(steps) <= 0 or not all(each.is_contiguous() for each in tensors):
        return None
    rows, columns = first.flatten(1).shape
    return first.detach().as_strided((len(tensors), rows, columns), (*steps, columns, 1))


def _stacked(factors: Sequence[Tensor], dim: int) -> Tensor:
    """Factors of K members as one tensor, those of smaller ranks with zeros at the end of `dim`."""
    flat = [each.flatten(1) for each in factors]
    most = max(each.shape[dim] for each in flat)
    return torch.stack([_filled(each, dim, most - each.shape[dim]) for each in flat])


def _filled(factor: Tensor, dim: int, count: int) -> Tensor:
    if not count:
        return factor
    return F.pad(factor, (0, count) if dim == 1 else (0, 0, 0, count))


def _shares(rows: Tensor, count: int) -> Tensor:
    """[K * N, ..., C] -> [K, rows, C]."""
    return rows if rows.ndim == 3 and rows.shape[0] == count else rows.reshape(count, -1, rows.shape[-1])


def _shaped(rows: Tensor, shape: torch.Size) -> Tensor:
    return rows if rows.shape == shape else rows.view(shape)


def _repeated(each: Any, times: int) -> Any:
    return each.repeat_interleave(times, 0) if times > 1 and isinstance(each, Tensor) else each


def _summed(found: Tensor, count: int) -> Tensor:
    """[K * N, ...] -> [K, ...]."""
    return found.view(count, -1, *found.shape[1:]).sum(1) if len(found) > count else found


def _scale(scales: tuple[float, ...], device: torch.device) -> Scale:
    if min(scales) == max(scales):
        return scales[0]
    return torch.tensor(scales, device=device)[:, None, None]
