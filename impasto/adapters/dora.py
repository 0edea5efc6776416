"""Weights decomposed into the length and the direction of their rows (Liu et al. 2024, "DoRA").

The length of the merged rows is taken for a constant in the backward pass (section 4.3 there), which saves keeping a
second weight.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from impasto.adapters.layers import along, unbiased
from impasto.adapters.targets import Layer

SHORTEST = 1e-12


def lengths(weight: Tensor) -> Tensor:
    """[O, 1, ...]: the length of each output's row."""
    found: Tensor = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)
    return found


def scale_of(base: Layer) -> nn.Parameter:
    """The lengths of the base's own rows, to be trained: `dora_scale` in files."""
    return nn.Parameter(lengths(base.weight.detach().float()))


def growth(scale: Tensor, merged: Tensor) -> Tensor:
    """[O, 1, ...]: how much longer each row of the merged weight shall be."""
    return scale / lengths(merged).detach().clamp_min(SHORTEST)


def change(added: Tensor, y: Tensor, base: Layer, growth: Tensor) -> Tensor:
    """What is added to `y` when the rows of the weight grow, `added` included."""
    factor = along(growth.flatten(), base)
    return (factor - 1) * unbiased(y, base) + factor * added
