"""Adan (Xie et al. 2022, Algorithm 1) whose rate is found by D-Adaptation (Defazio and Mishchenko 2023).

The library we take optimizers from has this one too, but squares the squares of the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor

BETAS = 0.98, 0.92, 0.99
"""What the means of the gradients, of their differences, and of the squares of both keep: 1 less those of the paper."""

EPS = 1e-8


class DAdaptAdan(torch.optim.Optimizer):
    """One estimate `d` of the distance to go, for all groups; every step is scaled by it."""

    def __init__(
        self, groups: Sequence[dict[str, Any]], *,
        lr: float = 1.0, betas: Sequence[float] = BETAS, d0: float = 1e-6, growth_rate: float = inf,
        weight_decay: float = 0.02, inner: bool = False,
    ) -> None:  # fmt: skip
        """`inner`: estimate by the products of the gradients with their sum so far, as the published Adam does, in
        place of the lengths of both, as its preprint did.
        """
        super().__init__(groups, {"lr": lr, "d": d0, "seen": 0.0})
        self._betas = betas
        self._growth_rate = growth_rate
        self._decay = weight_decay
        self._inner = inner

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Waits for the device once: the estimate is a plain number."""
        first = self.param_groups[0]
        d, rate = first["d"], first["lr"]
        keep = self._betas[2]
        sums = torch.stack([self._follow(each, d * rate) for group in self.param_groups for each in group["params"]])
        inner, apart, length, total = sums.double().sum(0).tolist()
        seen = keep * first["seen"] + (1 - keep) * d * rate * (inner if self._inner else d * rate * apart)
        if total and rate:
            found = 2 * keep / (1 - keep) * seen if self._inner else length / (1 - keep) - seen
            first["d"] = max(d, min(found / total, d * self._growth_rate))
        for group in self.param_groups:
            group["d"], group["seen"] = first["d"], seen
            for each in group["params"]:
                self._move(each, d * rate)

    def _follow(self, parameter: Tensor, rate: float) -> Tensor:
        """Take the gradient in. Returns [4]: by Adan's weights, its product with the sum so far, its square and the
        sum's square; and the sum's size.
        """
        grad = parameter.grad
        assert grad is not None
        state = self.state[parameter]
        if not state:
            state.update({name: torch.zeros_like(parameter) for name in ("mean", "change", "square", "sum")})
            state["last"] = grad.clone()
        first, second, third = self._betas
        apart = grad - state["last"]
        state["last"].copy_(grad)
        inner = (grad * state["sum"] / (state["square"].sqrt() + EPS)).sum()
        state["mean"].lerp_(grad * rate, 1 - first)
        state["change"].lerp_(apart * rate, 1 - second)
        state["square"].lerp_((grad + second * apart).square_(), 1 - third)
        state["sum"].lerp_(grad * rate, 1 - third)
        scale = state["square"].sqrt() + EPS
        whole = state["sum"]
        return torch.stack([inner, (grad.square() / scale).sum(), (whole.square() / scale).sum(), whole.abs().sum()])

    def _move(self, parameter: Tensor, rate: float) -> None:
        state = self.state[parameter]
        step = (state["mean"] + self._betas[1] * state["change"]) / (state["square"].sqrt() + EPS)
        parameter.sub_(step).div_(1 + rate * self._decay)
