"""Low-rank products of several members at once, each on its own share of the rows: a few matrix products for all.

Written out for the way back too, where autograd would visit each member's every factor in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def added(y: Tensor, x: Tensor, downs: Sequence[Tensor], ups: Sequence[Tensor], scales: Sequence[float]) -> Tensor:
    """y + scale * up(down(x)), where the rows of `x` [K * N, ..., I] and `y` [K * N, ..., O] are equal shares of K
    members with `downs` [rank, I] and `ups` [O, rank].

    Of a 1x1 convolution, rows are [K * N, I, H, W] and factors have two more sides of 1. Ranks may differ: smaller ones
    are filled up with zeros, which add nothing and learn nothing.
    """
    found: Tensor = _Added.apply(y, x, tuple(scales), *downs, *ups)  # type: ignore[no-untyped-call]
    return found


class _Added(torch.autograd.Function):
    """In `y`'s precision, as autocast would; gradients of the factors in theirs."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, scales: tuple[float, ...], *factors: Tensor) -> Tensor:
        count = len(scales)
        with torch.autocast(y.device.type, enabled=False):
            down = _stacked(factors[:count], 0, y.dtype)  # [K, rank, I]
            up = _stacked(factors[count:], 1, y.dtype, scales)  # [K, O, rank]
            rows = _shares(x.to(y.dtype), count)
            if y.ndim == 4:  # [K * N, I, H * W], and factors for each row
                if len(rows) > count:
                    down, up = (each.repeat_interleave(len(rows) // count, 0) for each in (down, up))
                low = torch.bmm(down, rows)  # [K * N, rank, H * W]
                out = torch.baddbmm(y.flatten(2), up, low)
            else:
                low = torch.bmm(rows, down.mT)  # [K, rows, rank]
                out = torch.baddbmm(_shares(y, count), low, up.mT)
        ctx.save_for_backward(rows, low, down, up)
        ctx.scales, ctx.dtype, ctx.shape = scales, x.dtype, x.shape
        ctx.factors = [(each.shape, each.dtype) for each in factors]
        return out.view(y.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        rows, low, down, up = ctx.saved_tensors
        count = len(ctx.scales)
        if grad.ndim == 4:
            flat = grad.flatten(2)
            back = torch.bmm(up.mT, flat)  # [K * N, rank, H * W]
            of_down, of_up = torch.bmm(back, rows.mT), torch.bmm(flat, low.mT)
            if len(rows) > count:
                of_down, of_up = (each.view(count, -1, *each.shape[1:]).sum(1) for each in (of_down, of_up))
            of_x = torch.bmm(down.mT, back) if ctx.needs_input_grad[1] else None
        else:
            flat = _shares(grad, count)
            back = torch.bmm(flat, up)  # [K, rows, rank]
            of_down, of_up = torch.bmm(back.mT, rows), torch.bmm(flat.mT, low)
            of_x = torch.bmm(back, down) if ctx.needs_input_grad[1] else None
        given = None if of_x is None else of_x.view(ctx.shape).to(ctx.dtype)
        own = [
            *_apart(of_down, ctx.factors[:count]),
            *_apart(_scaled(of_up, ctx.scales), ctx.factors[count:]),
        ]
        return grad, given, None, *own


def _shares(rows: Tensor, count: int) -> Tensor:
    """[K * N, ..., C] -> [K, rows, C]; of a convolution [K * N, C, H, W] -> [K * N, C, H * W]."""
    return rows.flatten(2) if rows.ndim == 4 else rows.reshape(count, -1, rows.shape[-1])


def _stacked(factors: Sequence[Tensor], dim: int, dtype: torch.dtype, scales: Sequence[float] = ()) -> Tensor:
    """Factors of K members as one tensor, those of smaller ranks with zeros at the end of `dim`."""
    ranks = [each.shape[dim] for each in factors]
    if min(ranks) == max(ranks):
        found = torch.stack(list(factors)).flatten(2)
    else:
        shape = list(factors[0].shape)
        shape[dim] = max(ranks)
        found = factors[0].new_zeros(len(factors), *shape)
        for at, each in enumerate(factors):
            found[at].narrow(dim, 0, each.shape[dim]).copy_(each)
        found = found.flatten(2)
    return _scaled(found, scales).to(dtype)


def _scaled(found: Tensor, scales: Sequence[float]) -> Tensor:
    """Each of K multiplied by its own."""
    if not scales or min(scales) == max(scales):
        return found * scales[0] if scales and scales[0] != 1 else found
    return found * torch.tensor(scales, dtype=found.dtype, device=found.device)[:, None, None]


def _apart(found: Tensor, factors: Sequence[tuple[torch.Size, torch.dtype]]) -> Sequence[Tensor]:
    """Each member's gradient, without what was filled up."""
    shape, dtype = factors[0]
    found = found.to(dtype)
    if all(each == shape for each, _ in factors):
        return found.view(len(factors), *shape).unbind()
    return [one[: own[0], : own[1]].reshape(own) for one, (own, _) in zip(found.unbind(), factors, strict=True)]
