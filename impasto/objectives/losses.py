"""How an error is measured: a number for each place, and of those one number an example."""

from __future__ import annotations

import torch
from torch import Tensor


def squared(predicted: Tensor, target: Tensor, t: Tensor) -> Tensor:
    """The squared difference of each place, fp32 [N, C, h, w]."""
    return (predicted.float() - target.float()).square()


def absolute(predicted: Tensor, target: Tensor, t: Tensor) -> Tensor:
    """The absolute difference of each place, fp32 [N, C, h, w]."""
    return (predicted.float() - target.float()).abs()


def huber(predicted: Tensor, target: Tensor, t: Tensor, *, thresholds: Tensor) -> Tensor:
    """2c (√(d² + c²) - c) for each place, fp32 [N, C, h, w]: d² below the threshold c, 2c |d| above it.

    `thresholds` [steps] are looked up at the timesteps `t` [N].
    """
    return _at(thresholds, t) * smooth_l1(predicted, target, t, thresholds=thresholds)


def smooth_l1(predicted: Tensor, target: Tensor, t: Tensor, *, thresholds: Tensor) -> Tensor:
    """2 (√(d² + c²) - c) for each place, fp32 [N, C, h, w]: d² / c below the threshold c, 2 |d| above it."""
    c, squares = _at(thresholds, t), squared(predicted, target, t)
    return 2 * squares / ((squares + c.square()).sqrt() + c)  # the difference of roots, without its cancellation


def mean_squared(predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean squared error of each example, fp32 [N], of `predicted` and `target` [N, C, h, w].

    With a `mask` [N, 1, h, w] in 0..1 it is the weighted mean over places: a small mask does not make the loss small.
    An example whose mask is 0 everywhere has loss 0.
    """
    return masked_mean((predicted.float() - target.float()).square(), mask)


def masked_mean(errors: Tensor, mask: Tensor | None, *, normalise: bool = True, floor: float = 0.0) -> Tensor:
    """The mean of each example's `errors` [N, C, h, w], weighted by `mask` [N, 1, h, w], as [N].

    No place has a weight below `floor`. Without `normalise` the sum is divided by all places, not by their weights.
    """
    if mask is None:
        return errors.flatten(1).mean(1)
    weights = mask.to(errors.dtype).clamp_min(floor).expand_as(errors).flatten(1)
    weighted = errors.flatten(1) * weights
    if not normalise:
        return weighted.mean(1)
    return weighted.sum(1) / weights.sum(1).clamp_min(torch.finfo(errors.dtype).tiny)


def _at(table: Tensor, t: Tensor) -> Tensor:
    return table[t].view(-1, 1, 1, 1)  # [N, 1, 1, 1]
