"""How the learning rate changes over a run: pure functions of the step, in plain numbers.

Nothing is remembered, so a run that is resumed with more steps simply goes on along its new curve.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from math import cos, pi, sqrt
from typing import assert_never

from impasto.optim import schedule_config as settings

POLYNOMIAL_END = 1e-7
TIMESCALE = 10_000
"""Of the inverse square root, where neither a timescale nor a warm-up says otherwise."""


def factor(schedule: settings.Schedule, step: int, total: int, *, first_step_zero: bool = False) -> float:
    """What the full learning rate is multiplied by at `step`, counted from 0, of `total` optimizer steps.

    Warm-up of w steps gives 1/w, 2/w ... 1: no step is lost. With `first_step_zero` it is 0/w, 1/w ... as in
    transformers and sd-scripts. After the warm-up both agree. At and after `total` the factor stays at its end.

    Raises ValueError if warm-up and fall do not fit into `total`.
    """
    check(schedule, total)
    span = _Span(min(step, total), _steps(schedule.warmup, total), total)
    rise = span.rise(first_step_zero)
    match schedule:
        case settings.Constant():
            return rise
        case settings.PiecewiseConstant():
            return rise * schedule.factors[bisect_right(schedule.until, step)]
        case settings.WarmupStableDecay():
            fall = _steps(schedule.decay, total)
            held = _Span(span.step, total - fall, total)  # before its last steps it only holds
            return _between(schedule.minimum, min(rise, 1.0 if held.rising else _half_cosine(held.done)))
        case _ if span.rising:
            return rise
        case settings.Linear():
            return 1 - span.done
        case settings.Cosine():
            return _half_cosine(span.done)
        case settings.CosineRestarts():
            return 0.0 if span.done >= 1 else _half_cosine(span.done_of(schedule.cycles))
        case settings.CosineMinimum():
            return _between(schedule.minimum, _half_cosine(span.done))
        case settings.Rex():
            return (1 - span.done) / (1 - span.done / 2)
        case settings.Polynomial():
            return _between(POLYNOMIAL_END, (1 - span.done) ** schedule.power)
        case settings.InverseSqrt():
            timescale = schedule.timescale or span.warmup or TIMESCALE
            return 1 / sqrt(1 + (step - span.warmup) / timescale)
        case _:
            assert_never(schedule)


def check(schedule: settings.Schedule, total: int) -> None:
    """Raise ValueError if warm-up and fall do not fit into `total` steps."""
    warmup = _steps(schedule.warmup, total)
    fall = _steps(schedule.decay, total) if isinstance(schedule, settings.WarmupStableDecay) else 0
    if warmup + fall > total:
        falling = f" and a fall of {fall}" if fall else ""
        raise ValueError(f"a warm-up of {warmup} steps{falling} does not fit into {total} steps")


def warmup_steps(schedule: settings.Schedule, total: int) -> int:
    """The steps over which the rate rises."""
    return _steps(schedule.warmup, total)


@dataclass(frozen=True)
class _Span:
    """A run of `total` steps whose first `warmup` rise."""

    step: int
    warmup: int
    total: int

    @property
    def rising(self) -> bool:
        return self.step < self.warmup

    def rise(self, first_step_zero: bool) -> float:
        if not self.rising:
            return 1.0
        return (self.step if first_step_zero else self.step + 1) / self.warmup

    @property
    def done(self) -> float:
        """The share of the steps after the warm-up that are over."""
        return self.done_of(1) if self.step < self.total else 1.0

    def done_of(self, cycles: int) -> float:
        """The share of the current one of `cycles` that is over; in whole numbers, so that a new one starts at 0."""
        length = self.total - self.warmup
        return (self.step - self.warmup) * cycles % length / length


def _steps(length: float, total: int) -> int:
    """A whole number of steps as it is, a share of all steps rounded down."""
    return length if isinstance(length, int) else int(length * total)


def _half_cosine(share: float) -> float:
    return (1 + cos(pi * share)) / 2


def _between(low: float, share: float) -> float:
    return low + (1 - low) * share
