"""Reads what a member's last steps did off the device, in one go."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from impasto.engine.member import Progress


@dataclass(frozen=True)
class Done:
    """What one step did. A number that is not finite is none."""

    step: int
    """Steps done, with this one."""
    loss: float | None
    norm: float | None
    skipped: bool
    """Whether it was thrown away."""
    rates: dict[str, float]
    shortened: int | None = None
    """Where layers are kept from growing longer: how many were, and how long they are."""
    length: float | None = None
    longest: float | None = None


@dataclass(frozen=True)
class Seen:
    """What one look at a picture cost."""

    step: int
    """Steps done before it."""
    key: str
    t: int
    loss: float


@dataclass(frozen=True)
class Read:
    """What the steps since the last reading did."""

    steps: list[Done] = field(default_factory=list)
    looks: list[Seen] = field(default_factory=list)
    """Those of steps that were thrown away, and those that do not count, are left out."""


def read(progress: Progress) -> Read:
    """All of it; this waits for the device."""
    if not progress.losses:
        return Read()
    rows = torch.stack([torch.stack(each).float() for each in (progress.losses, progress.norms, progress.skips)])
    bounds = torch.stack(progress.bounds).tolist() if progress.bounds else [None] * len(progress.losses)
    steps = [
        Done(progress.first + at + 1, _finite(loss), _finite(norm), bool(skip), rates, *_bounded(bound))
        for at, ((loss, norm, skip), rates, bound) in enumerate(
            zip(rows.T.tolist(), progress.rates, bounds, strict=True)
        )
    ]
    return Read(steps, [each for each in _looks(progress) if not steps[each.step - progress.first].skipped])


def _looks(progress: Progress) -> Iterator[Seen]:
    told = [
        torch.stack([look.t.float(), look.losses.float(), look.weight.float().to(look.t.device)])
        for some in progress.looks for look in some
    ]  # fmt: skip
    numbers = iter(torch.cat(told, dim=1).T.tolist() if told else [])
    for at, some in enumerate(progress.looks):
        for key in (key for look in some for key in look.keys):
            t, loss, weight = next(numbers)
            if weight > 0:
                yield Seen(progress.first + at, key, int(t), loss / weight)


def _bounded(found: list[float] | None) -> tuple[int | None, float | None, float | None]:
    if found is None:
        return None, None, None
    count, mean, largest = found
    return int(count), _finite(mean), _finite(largest)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
