"""Which noise level an example is shown at: keyed dice, one roll an example."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from impasto import dice


def uniform(keys: Sequence[str], *, low: int, high: int, seed: int) -> Tensor:
    """A timestep in low..high-1 for each key, int64 [N] on the host: all alike probable (Ho et al. 2020, Algorithm 1).

    An example's timestep depends on `seed` and its key alone, not on its neighbours.
    """
    return torch.tensor([low + dice.seed("timestep", seed, key) % (high - low) for key in keys], dtype=torch.int64)
