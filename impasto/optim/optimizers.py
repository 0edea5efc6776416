"""What moves an adapter's numbers: gradients are measured, shortened, and given to a rule, or the step is skipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from impasto.optim.flat import FlatParameters
from impasto.optim.state import compare, copied, take_over


@dataclass(frozen=True)
class Update:
    """What one step did: scalars on the device, to be read when somebody waits anyway."""

    norm: Tensor
    """The length of all gradients together, before clipping. Not finite if the step was skipped."""

    skipped: Tensor
    """1.0 if the gradients were not finite, so that nothing was changed; else 0.0."""

    rates: Mapping[str, float]
    """The rate each part was moved by: what was asked for, times what the rule has found where it looks for one."""


class Rule(Protocol):
    """Turns gradients into steps. Whether a step counts is decided on the device: no rule may ask it."""

    def step(self, rates: Mapping[str, float], divisor: Tensor | None, skipped: Tensor) -> Mapping[str, float]:
        """Divide the gradients by `divisor` and move every part, or change nothing where `skipped` is 1.0.

        Returns the rates in the end.
        """

    def tensors(self) -> Mapping[str, Tensor]:
        """All that the next step depends on, by name; not copies."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state, to the bit. Raises ValueError, before anything changes, if it is another rule's."""

    def shown(self) -> AbstractContextManager[None]:
        """For as long as the `with` lasts, the weights that are to be used, where these are not those in training."""


class Optimizer:
    """Clips the gradients of all parts together and steps, or skips the step if they are not finite.

    Which of the two is decided on the device. A skipped step leaves weights, moments and the rule's own step count
    as they were, bit for bit.
    """

    def __init__(self, flat: FlatParameters, rule: Rule, *, clip: float) -> None:
        """`clip` 0: never."""
        self._flat = flat
        self._rule = rule
        self._clip = clip
        self._skipped = torch.zeros((), dtype=torch.int64, device=flat.device)

    @property
    def skipped(self) -> Tensor:
        """How many steps were skipped so far, a scalar on the device."""
        return self._skipped

    @torch.no_grad()
    def step(self, rates: Mapping[str, float], *, scale: Tensor | None = None) -> Update:
        """Move every part by its learning rate in `rates`. The gradients are used up; `zero_grad` forgets them.

        `scale` is the factor the loss had in backward (fp16), a scalar on the device; it is taken out again.
        """
        for group in self._flat.groups.values():
            group.check()
        norm = self._flat.norm()
        skipped = (~norm.isfinite()).float()
        true_norm = norm if scale is None else norm / scale
        used = self._rule.step(rates, self._divisor(true_norm, scale), skipped)
        self._skipped += skipped.to(torch.int64)
        return Update(true_norm, skipped, used)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._flat.zero_grad()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The weights to be used for as long as the `with` lasts; then those in training again, bit for bit."""
        with self._rule.shown():
            yield

    def state(self) -> dict[str, Tensor]:
        """What a resume needs: `<part>.<name>` of each of the rule's tensors, and `skipped`. Copies on the host."""
        return copied({**self._rule.tensors(), "skipped": self._skipped})

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state exactly. Raises ValueError if it is not this optimizer's."""
        own = {"skipped": self._skipped}
        theirs = {name: value for name, value in state.items() if name in own}
        compare(own, theirs)
        self._rule.restore({name: value for name, value in state.items() if name not in own})
        take_over(own, theirs)

    def _divisor(self, norm: Tensor, scale: Tensor | None) -> Tensor | None:
        """What gradients are divided by: the loss scale, and the excess over `clip` (Pascanu et al. 2013, Alg. 1)."""
        if not self._clip:
            return scale
        excess = ((norm + 1e-6) / self._clip).clamp_min(1.0)
        return excess if scale is None else excess * scale
