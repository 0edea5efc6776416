"""Low-rank products of several members at once, each on its own share of the rows: a few matrix products for all.

Written out for the way back too, where autograd would visit each member's every factor in turn. Of members whose
numbers lie side by side in one matrix, a layer's factors are a view of it, and so are their gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """What gives y + scale * up(down(x)) for `x` and `y`, whose rows are equal shares of K members with `downs`
    [rank, I] and `ups` [O, rank]; good for as long as these stay where they are and learn, or do not, as now.
    """
    down, up = _side_by_side(downs), _side_by_side(ups)
    known: dict[tuple[float, ...], Scale] = {}

    def joined(x: Tensor, y: Tensor) -> Tensor:
        now = tuple(scales())
        if now not in known:
            known[now] = _scale(now, y.device)
        if down is None or up is None or torch.compiler.is_compiling():  # a graph keeps to autograd's ways
            return added(y, x, downs, ups, known[now])
        found: Tensor = _Added.apply(y, x, down, up, known[now])  # type: ignore[no-untyped-call]
        return found

    return joined


def added(y: Tensor, x: Tensor, downs: Sequence[Tensor], ups: Sequence[Tensor], scale: Scale) -> Tensor:
    """y + scale * up(down(x)), where the rows of `x` [K * N, ..., I] and `y` [K * N, ..., O] are equal shares of K
    members with `downs` [rank, I] and `ups` [O, rank].

    Of a 1x1 convolution, rows are [K * N, I, H, W] and factors have two more sides of 1. Ranks may differ: smaller ones
    are filled up with zeros, which add nothing and learn nothing.
    """
    found: Tensor = _Added.apply(y, x, _stacked(downs, 0), _stacked(ups, 1), scale)  # type: ignore[no-untyped-call]
    return found


class _Added(torch.autograd.Function):
    """In `y`'s precision, as autocast would; gradients of the factors in theirs, [K, rank, I] and [K, O, rank]. Factors
    that have a gradient get more of it in place."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: Scale) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):
            narrow = down.to(y.dtype)
            wide = up.to(y.dtype).mT.contiguous()  # [K, rank, O]: so products with a short side are fast
            rows, each = _shares(x.to(y.dtype), len(down)), scale
            if y.ndim == 4:  # [K * N, I, H * W], and factors for each row
                narrow, wide, each = (_repeated(some, len(rows) // len(down)) for some in (narrow, wide, scale))
                low = torch.bmm(narrow, rows).mul_(each)  # [K * N, rank, H * W]
                out = torch.baddbmm(y.flatten(2), wide.mT, low)
            else:
                low = torch.bmm(rows, narrow.mT).mul_(each)  # [K, rows, rank]
                out = torch.baddbmm(_shares(y, len(down)), low, wide)
        ctx.save_for_backward(rows, low, narrow, wide)
        ctx.down, ctx.up, ctx.scale, ctx.dtype, ctx.shape = down, up, each, x.dtype, x.shape
        return out.view(y.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        rows, low, narrow, wide = ctx.saved_tensors
        count, asks = len(ctx.down), ctx.needs_input_grad
        if grad.ndim == 4:
            flat = grad.flatten(2)
            back = torch.bmm(wide, flat).mul_(ctx.scale)  # [K * N, rank, H * W]
            of_x = torch.bmm(narrow.mT, back) if asks[1] else None
            of_down, of_up = (_summed(torch.bmm(*pair), count) for pair in ((back, rows.mT), (low, flat.mT)))
        else:
            flat = _shares(grad, count)
            back = torch.bmm(flat, wide.mT).mul_(ctx.scale)  # [K, rows, rank]
            of_x = torch.bmm(back, narrow) if asks[1] else None
            of_down, of_up = torch.bmm(back.mT, rows), torch.bmm(low.mT, flat)
        given = None if of_x is None else of_x.view(ctx.shape).to(ctx.dtype)
        return grad, given, _into(ctx.down, of_down), _into(ctx.up, of_up.mT), None


def _into(factors: Tensor, grad: Tensor) -> Tensor | None:
    """The gradient of factors; None once it is added to the one they have."""
    if not factors.requires_grad:
        return None
    if not factors.is_leaf or factors.grad is None:
        return grad.to(factors.dtype)
    factors.grad.add_(grad)
    return None


def _side_by_side(factors: Sequence[Tensor]) -> Tensor | None:
    """Factors of K members that lie evenly spaced in one memory, and so do their gradients, as views [K, ...] of all;
    without the sides of 1 that a convolution has. None if they do not."""
    views = _view(factors)
    if views is None or len({each.requires_grad for each in factors}) > 1:
        return None
    if factors[0].requires_grad:
        grads = [each.grad for each in factors if each.grad is not None]
        if len(grads) < len(factors) or (of_all := _view(grads)) is None:
            return None
        views.requires_grad_()
        views.grad = of_all
    return views


def _view(tensors: Sequence[Tensor]) -> Tensor | None:
    first, places = tensors[0], [each.storage_offset() for each in tensors]
    steps = {after - before for before, after in pairwise(places)}
    memory = {(each.untyped_storage().data_ptr(), each.shape, each.dtype) for each in tensors}
    if len(memory) > 1 or len(steps) != 1 or min(steps) <= 0 or not all(each.is_contiguous() for each in tensors):
        return None
    rows, columns = first.flatten(1).shape
    return first.detach().as_strided((len(tensors), rows, columns), (*steps, columns, 1))


def _shares(rows: Tensor, count: int) -> Tensor:
    """[K * N, ..., C] -> [K, rows, C]; of a convolution [K * N, C, H, W] -> [K * N, C, H * W]."""
    return rows.flatten(2) if rows.ndim == 4 else rows.reshape(count, -1, rows.shape[-1])


def _repeated(each: Any, times: int) -> Any:
    return each.repeat_interleave(times, 0) if times > 1 and isinstance(each, Tensor) else each


def _summed(found: Tensor, count: int) -> Tensor:
    return found.view(count, -1, *found.shape[1:]).sum(1) if len(found) > count else found


def _stacked(factors: Sequence[Tensor], dim: int) -> Tensor:
    """Factors of K members as one tensor, those of smaller ranks with zeros at the end of `dim`."""
    flat = [each.flatten(1) for each in factors]
    most = max(each.shape[dim] for each in flat)
    return torch.stack([_filled(each, dim, most - each.shape[dim]) for each in flat])


def _filled(factor: Tensor, dim: int, count: int) -> Tensor:
    if not count:
        return factor
    return F.pad(factor, (0, count) if dim == 1 else (0, 0, 0, count))


def _scale(scales: tuple[float, ...], device: torch.device) -> Scale:
    if min(scales) == max(scales):
        return scales[0]
    return torch.tensor(scales, device=device)[:, None, None]
