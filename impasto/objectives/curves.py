"""What an objective spends its effort on, timestep by timestep: numbers for a plot.

Importing this does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from impasto import objectives
from impasto.objectives import config as settings
from impasto.objectives.densities import Size
from impasto.objectives.weighting import Array

if TYPE_CHECKING:
    from impasto.objectives.process import Process


@dataclass(frozen=True)
class Curves:
    """Every array is fp64 [steps], by timestep."""

    snr: Array
    """Signal over noise, of the process that is trained."""

    probability: Array
    """How often the timestep is drawn; sums to 1."""

    weight: Array
    """What the loss of an example drawn there is multiplied by, besides its own weight."""

    threshold: Array | None
    """Where the error turns from squared into linear; None for losses that do not turn."""

    @property
    def effort(self) -> Array:
        """The share of all weight that the timestep gets in the long run, the product of both; sums to 1."""
        product = self.probability * self.weight
        total: Array = product / product.sum()
        return total


def curves(config: settings.Objective, process: Process, size: Size = (64, 64)) -> Curves:
    """What `config` does over a family's `process`, for latents of `size`, computed by what trains.

    Raises ConfigError where the two do not go together.
    """
    import torch

    config = objectives.for_base(config, process)
    trained = objectives.build(config, process, seed=0).process
    snr: Array = trained.snr(torch.arange(trained.steps)).cpu().double().numpy()
    return Curves(
        snr,
        probability(config, trained.steps, size),
        objectives.weigh(config, snr, trained.prediction),
        objectives.thresholds(config.loss, snr),
    )


def probability(config: settings.Objective, steps: int, size: Size = (64, 64)) -> Array:
    """How often each timestep of a process with `steps` is drawn for latents of `size`, [steps]; sums to 1."""
    density = objectives.density(config, size)
    found = np.zeros(steps)
    for t in range(config.timesteps.low, config.timesteps.high):
        found[t] = density.share(t / steps, (t + 1) / steps)
    total: Array = found / found.sum()
    return total
