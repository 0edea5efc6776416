"""What one member tries to do: hide latents in noise, and measure how well a prediction finds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from impasto.objectives import losses
from impasto.objectives.densities import Size
from impasto.objectives.noise import gaussian
from impasto.objectives.process import Process

DrawTimesteps = Callable[[Sequence[str], Size], Tensor]
"""Keys of visits and the size of their latents -> integer timesteps [N]."""

ShapeNoise = Callable[[Tensor, Tensor, Sequence[str], int], Tensor]
"""Noise and latents [N, C, h, w], keys of visits, seed -> other noise [N, C, h, w]."""

Error = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Prediction and target [N, C, h, w], timesteps [N] -> errors [N, C, h, w]."""

Mean = Callable[[Tensor, Tensor | None], Tensor]
"""Errors [N, C, h, w], mask [N, 1, h, w] or None -> means [N]."""


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
    """The one to train, and to draw, with: the family's, or that with its last step made pure noise."""

    seed: int
    draw: DrawTimesteps
    shaping: tuple[ShapeNoise, ...] = ()
    """What is done to the noise, in this order."""

    perturb: ShapeNoise | None = None
    """What the denoiser sees in place of the noise it is asked for."""

    error: Error = losses.squared
    mean: Mean = losses.masked_mean
    weights: Tensor | None = None
    """[steps], on the device of the process: how much each timestep counts. None: all alike."""

    @torch.no_grad()
    def corrupt(self, latents: Tensor, keys: Sequence[str], t: Tensor | None = None) -> Noised:
        """Latents [N, C, h, w] hidden in noise, on their own device.

        `keys` name the visits [N]: noise and timestep of an example are functions of the seed and its key. `t` [N]
        fixes the timesteps instead, for validation; then the noise is plain, so that runs can be compared.
        """
        assert len(keys) == len(latents), "one key an example"
        noise = gaussian(keys, latents.shape[1:], seed=self.seed).to(latents.device)
        latents = latents.float()
        if t is not None:
            return self._noised(latents, noise, noise, t)
        for shape in self.shaping:
            noise = shape(noise, latents, keys, self.seed)
        seen = noise if self.perturb is None else self.perturb(noise, latents, keys, self.seed)
        height, width = latents.shape[-2:]
        return self._noised(latents, seen, noise, self.draw(keys, (height, width)))

    def loss(self, predicted: Tensor, noised: Noised, weight: Tensor, mask: Tensor | None = None) -> Tensor:
        """The error of each example times its `weight` [N], fp32 [N]; `mask` [N, 1, h, w] says which places count."""
        means = self.mean(self.error(predicted, noised.target, noised.t), mask) * weight.float()
        return means if self.weights is None else means * self.weights[noised.t]

    def measure(self, predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The plain mean squared error of each example, fp32 [N]: runs are compared by it, whatever they train on."""
        return losses.mean_squared(predicted, target, mask)

    def _noised(self, latents: Tensor, seen: Tensor, noise: Tensor, t: Tensor) -> Noised:
        t = t.to(latents.device)
        return Noised(self.process.add_noise(latents, seen, t), t, self.process.target(latents, noise, t))
