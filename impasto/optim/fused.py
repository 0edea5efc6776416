"""Rules that torch has as one operation for a whole part: it divides gradients as it reads them, and can skip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from impasto.optim import config as settings
from impasto.optim.flat import FlatParameters
from impasto.optim.state import take_over


class Fused:
    """One of torch's fused optimizers over flat parameters, its state laid out before the first step."""

    def __init__(self, flat: FlatParameters, rule: torch.optim.Optimizer) -> None:
        """`rule` has one fused group a part, in the order of `flat`, and its state is complete."""
        assert len(rule.param_groups) == len(flat.groups), "one group a part"
        self._flat = flat
        self._rule = rule
        self._settings = dict(zip(flat.groups, rule.param_groups, strict=True))

    def step(self, rates: Mapping[str, float], divisor: Tensor | None, skipped: Tensor) -> Mapping[str, float]:
        """One operation a part: gradients are divided by grad_scale, and nothing is touched if found_inf is 1."""
        for part, group in self._settings.items():
            group["lr"] = rates[part]
        self._rule.grad_scale = divisor  # type: ignore[attr-defined]
        self._rule.found_inf = skipped  # type: ignore[attr-defined]
        self._rule.step()
        return rates

    def tensors(self) -> Mapping[str, Tensor]:
        """`<part>.<name>` of each of torch's tensors."""
        return {
            f"{part}.{name}": value
            for part, group in self._flat.groups.items()
            for name, value in self._rule.state[group.values].items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state exactly."""
        take_over(self.tensors(), state)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The weights in training are those to be used."""
        yield


def adamw(flat: FlatParameters, config: settings.AdamW) -> Fused:
    """AdamW (Loshchilov and Hutter 2019, Algorithm 2)."""
    rule = torch.optim.AdamW(
        [{"params": [group.values]} for group in flat.groups.values()],
        lr=0.0,  # set before every step
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )
    for group in flat.groups.values():
        rule.state[group.values] = {
            "step": torch.zeros((), device=flat.device),
            "exp_avg": torch.zeros_like(group.grads),
            "exp_avg_sq": torch.zeros_like(group.grads),
        }
    return Fused(flat, rule)


def sgd(flat: FlatParameters, config: settings.Sgd) -> Fused:
    """Stochastic gradient descent with momentum (Sutskever et al. 2013). A momentum of zeros is the usual start."""
    rule = torch.optim.SGD(
        [{"params": [group.values]} for group in flat.groups.values()],
        lr=0.0,  # set before every step
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=True,
    )
    if config.momentum:
        for group in flat.groups.values():
            rule.state[group.values] = {"momentum_buffer": torch.zeros_like(group.grads)}
    return Fused(flat, rule)
