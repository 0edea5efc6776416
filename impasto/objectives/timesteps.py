"""Which noise level an example is shown at: keyed dice, one roll an example."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from impasto import dice
from impasto.objectives.densities import Density

Roll = Callable[[str], float]
"""Key of a visit -> a share in 0..1, exclusive."""

EPOCH_STEP, VISIT_STEP = (math.sqrt(5) - 1) / 2, math.sqrt(2) - 1
"""Steps round a circle of length 1 that stay far from closing: the golden ratio's stays farthest."""


def uniform(keys: Sequence[str], *, low: int, high: int, seed: int) -> Tensor:
    """A timestep in low..high-1 for each key, int64 [N] on the host: all alike probable (Ho et al. 2020, Algorithm 1).

    An example's timestep depends on `seed` and its key alone, not on its neighbours.
    """
    return torch.tensor([low + dice.seed("timestep", seed, key) % (high - low) for key in keys], dtype=torch.int64)


def distributed(keys: Sequence[str], roll: Roll, density: Density, *, low: int, high: int, steps: int) -> Tensor:
    """A timestep in low..high-1 of a process with `steps` for each key, int64 [N] on the host, by `density`.

    Timestep t stands for the positions from t / steps to (t + 1) / steps.
    """
    positions = [density.within(low / steps, high / steps, roll(key)) for key in keys]
    return torch.tensor([min(max(int(x * steps), low), high - 1) for x in positions], dtype=torch.int64)


def independent(key: str, *, seed: int) -> float:
    """A share in 0..1, exclusive, that has nothing to do with any other key's."""
    return _share("timestep", seed, key)


def stratified(key: str, *, seed: int) -> float:
    """A share in 0..1, exclusive, that lies far from those of other looks at the same picture.

    Looks go round a circle, from a start of the picture's own, by one irrational step a visit and another an epoch
    (an additive recurrence after Kronecker and Weyl): each share is uniform by itself, and any run of visits or epochs
    covers the circle evenly. `key` ends with `:visit:epoch`.
    """
    picture, visit, epoch = key.rsplit(":", 2)
    start = _share("timestep start", seed, picture)
    turned = (start + int(visit) * VISIT_STEP % 1 + int(epoch) * EPOCH_STEP % 1) % 1
    return min(max(turned, 2.0**-53), 1 - 2.0**-53)


def _share(*key: dice.Key) -> float:
    return ((dice.seed(*key) >> 11) + 0.5) / 2**52
