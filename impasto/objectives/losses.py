"""How an error is measured: one number an example."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_squared(predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean squared error of each example, fp32 [N], of `predicted` and `target` [N, C, h, w].

    With a `mask` [N, 1, h, w] in 0..1 it is the weighted mean over places: a small mask does not make the loss small.
    An example whose mask is 0 everywhere has loss 0.
    """
    return masked_mean((predicted.float() - target.float()).square(), mask)


def masked_mean(errors: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of each example's `errors` [N, C, h, w], weighted by `mask` [N, 1, h, w], as [N]."""
    if mask is None:
        return errors.flatten(1).mean(1)
    weights = mask.to(errors.dtype).expand_as(errors).flatten(1)
    total = weights.sum(1).clamp_min(torch.finfo(errors.dtype).tiny)
    return (errors.flatten(1) * weights).sum(1) / total
