"""Which variants go on after a rung: arithmetic only, so that a decision is the same whenever it is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from impasto.sweeps.config import Halving

FIRST = 0.1
"""No variant is judged before it has had this share of the steps: warm-up and noise would decide."""


@dataclass(frozen=True)
class Verdict:
    """What a rung decides."""

    kept: tuple[int, ...]
    """Variants that go on, best first."""

    dropped: Mapping[int, str]
    """Variants that stop, each with the reason."""


def rungs(halving: Halving, variants: int, total: int) -> list[int]:
    """The steps after which variants are compared, before the last one."""
    if halving.rungs:
        return sorted({step for step in halving.rungs if step < total})
    found: list[int] = []
    while variants > halving.keep and (step := total / halving.eta ** (len(found) + 1)) >= max(1, FIRST * total):
        found.append(round(step))
        variants = survivors(halving, variants)
    return sorted(set(found))


def survivors(halving: Halving, variants: int) -> int:
    """How many of so many variants go on."""
    return min(variants, max(halving.keep, math.ceil(variants / halving.eta)))


def decide(halving: Halving, losses: Mapping[int, Sequence[float | None]], step: int) -> Verdict:
    """Compare variants by the mean loss of their runs. A run without a loss, or none that is a number, counts as worst;
    of equals the earlier variant is better."""
    means = {variant: _mean(each) for variant, each in losses.items()}
    order = sorted(means, key=lambda variant: (means[variant], variant))
    count = survivors(halving, len(order))
    kept, lost = order[:count], order[count:]
    bar = means[kept[-1]] if kept else math.inf
    return Verdict(
        tuple(kept), {variant: _reason(order, variant, means[variant], bar, count, step) for variant in lost}
    )


def share_of_cost(halving: Halving, variants: int, total: int) -> float:
    """The steps that are trained, as a share of all steps of all variants."""
    trained, before, left = 0, 0, variants
    for step in rungs(halving, variants, total):
        trained += left * (step - before)
        before, left = step, survivors(halving, left)
    return (trained + left * (total - before)) / (variants * total)


def _mean(losses: Sequence[float | None]) -> float:
    if not losses or any(each is None or not math.isfinite(each) for each in losses):
        return math.inf
    return math.fsum(each for each in losses if each is not None) / len(losses)


def _reason(order: Sequence[int], variant: int, loss: float, bar: float, count: int, step: int) -> str:
    place = f"place {order.index(variant) + 1} of {len(order)} after {step} steps, and {count} go on"
    if math.isinf(loss):
        return f"{place}: it has no loss that is a number"
    return f"{place}: validation loss {loss:.4g}, the last that goes on has {bar:.4g}"
