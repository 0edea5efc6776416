"""What one member tries to do: hide latents in noise, and measure how well a prediction finds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from impasto.objectives.noise import gaussian
from impasto.objectives.process import Process

DrawTimesteps = Callable[[Sequence[str]], Tensor]
"""Keys of visits -> integer timesteps [N]."""

Measure = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Prediction and target [N, C, h, w], mask [N, 1, h, w] or None -> errors [N]."""


@dataclass(frozen=True)
class Noised:
    """Examples as the denoiser sees them, and what it should answer. Dim 0 is the example."""

    x: Tensor
    """[N, C, h, w], fp32."""

    t: Tensor
    """[N], integer timesteps."""

    target: Tensor
    """[N, C, h, w], fp32."""


@dataclass(frozen=True)
class Objective:
    """What one member tries to do. `impasto.objectives.build` makes one from its settings."""

    process: Process
    seed: int
    draw: DrawTimesteps
    measure: Measure

    @torch.no_grad()
    def corrupt(self, latents: Tensor, keys: Sequence[str], t: Tensor | None = None) -> Noised:
        """Latents [N, C, h, w] hidden in noise, on their own device.

        `keys` name the visits [N]: noise and timestep of an example are functions of the seed and its key. `t` [N]
        fixes the timesteps instead, for validation.
        """
        assert len(keys) == len(latents), "one key an example"
        t = (self.draw(keys) if t is None else t).to(latents.device)
        noise = gaussian(keys, latents.shape[1:], seed=self.seed).to(latents.device)
        latents = latents.float()
        return Noised(self.process.add_noise(latents, noise, t), t, self.process.target(latents, noise, t))

    def loss(self, predicted: Tensor, noised: Noised, weight: Tensor, mask: Tensor | None = None) -> Tensor:
        """The error of each example times its `weight` [N], fp32 [N]; `mask` [N, 1, h, w] says which places count."""
        return self.measure(predicted, noised.target, mask) * weight.float()
