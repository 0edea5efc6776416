"""Rules that turn gradients into steps, over flat parameters and without ever waiting for the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from impasto.optim import config as settings
from impasto.optim.flat import FlatParameters
from impasto.optim.state import copied, take_over


@dataclass(frozen=True)
class Update:
    """What one step did: scalars on the device, to be read when somebody waits anyway."""

    norm: Tensor
    """The length of all gradients together, before clipping. Not finite if the step was skipped."""

    skipped: Tensor
    """1.0 if the gradients were not finite, so that nothing was changed; else 0.0."""


class Optimizer:
    """Clips the gradients of all parts together and steps, or skips the step if they are not finite.

    Which of the two is decided on the device. A skipped step leaves weights, moments and the rule's own step count
    as they were, bit for bit.
    """

    def __init__(self, flat: FlatParameters, rule: torch.optim.Optimizer, *, clip: float) -> None:
        """`rule` has one fused group a part, in the order of `flat`, and its state is complete. `clip` 0: never."""
        assert len(rule.param_groups) == len(flat.groups), "one group a part"
        self._flat = flat
        self._rule = rule
        self._settings = dict(zip(flat.groups, rule.param_groups, strict=True))
        self._clip = clip
        self._skipped = torch.zeros((), dtype=torch.int64, device=flat.device)

    @property
    def skipped(self) -> Tensor:
        """How many steps were skipped so far, a scalar on the device."""
        return self._skipped

    @torch.no_grad()
    def step(self, rates: Mapping[str, float], *, scale: Tensor | None = None) -> Update:
        """Move every part by its learning rate in `rates`. The gradients remain; `zero_grad` forgets them.

        `scale` is the factor the loss had in backward (fp16), a scalar on the device; it is taken out again.
        """
        for part, group in self._flat.groups.items():
            group.check()
            self._settings[part]["lr"] = rates[part]
        norm = self._flat.norm()
        skipped = (~norm.isfinite()).float()
        true_norm = norm if scale is None else norm / scale
        # torch's fused rules divide gradients by grad_scale as they read them, and touch nothing if found_inf is 1
        self._rule.grad_scale = self._divisor(true_norm, scale)  # type: ignore[attr-defined]
        self._rule.found_inf = skipped  # type: ignore[attr-defined]
        self._rule.step()
        self._skipped += skipped.to(torch.int64)
        return Update(true_norm, skipped)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._flat.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """What a resume needs: `<part>.<name>` of each of the rule's tensors, and `skipped`. Copies on the host."""
        return copied(self._tensors())

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state exactly. Raises ValueError if it is not this optimizer's."""
        take_over(self._tensors(), state)

    def _divisor(self, norm: Tensor, scale: Tensor | None) -> Tensor | None:
        """What gradients are divided by: the loss scale, and the excess over `clip` (Pascanu et al. 2013, Alg. 1)."""
        if not self._clip:
            return scale
        excess = ((norm + 1e-6) / self._clip).clamp_min(1.0)
        return excess if scale is None else excess * scale

    def _tensors(self) -> dict[str, Tensor]:
        own = {
            f"{part}.{name}": value
            for part, group in self._flat.groups.items()
            for name, value in self._rule.state[group.values].items()
        }
        return {**own, "skipped": self._skipped}


def adamw(flat: FlatParameters, config: settings.AdamW) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019, Algorithm 2) in one fused operation a part, its state laid out at once."""
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
    return rule
