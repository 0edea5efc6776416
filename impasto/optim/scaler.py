"""Loss scaling for fp16, one scale a member: small gradients survive, and a member's overflow is its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from impasto.optim.state import copied, take_over

START = 65536.0
GROWTH = 2.0
BACKOFF = 0.5
INTERVAL = 2000
"""Steps without an overflow after which the scale grows."""


class LossScaler:
    """The factor of a member's loss in backward (Micikevicius et al. 2018, section 3.2), kept on the device.

    It halves after a step whose gradients were not finite and doubles after 2000 that were: torch's GradScaler,
    without its questions to the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), START, device=device)
        """fp32 scalar; the same tensor for good, so it may be kept."""

        self._clean = torch.zeros((), dtype=torch.int32, device=device)

    @torch.no_grad()
    def update(self, skipped: Tensor) -> None:
        """Learn from a step: `skipped` is 1.0 if its gradients were not finite, else 0.0."""
        overflowed = skipped > 0
        clean = torch.where(overflowed, torch.zeros_like(self._clean), self._clean + 1)
        due = clean == INTERVAL
        larger = torch.where(due & (self.scale * GROWTH).isfinite(), self.scale * GROWTH, self.scale)
        self.scale.copy_(torch.where(overflowed, self.scale * BACKOFF, larger))
        self._clean.copy_(torch.where(due, torch.zeros_like(clean), clean))

    def state(self) -> dict[str, Tensor]:
        """What a resume needs. Copies on the host."""
        return copied(self._tensors())

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state exactly. Raises ValueError if it is not a scaler's."""
        take_over(self._tensors(), state)

    def _tensors(self) -> dict[str, Tensor]:
        return {"scale": self.scale, "clean": self._clean}
