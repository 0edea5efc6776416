"""How many runs fit on one base at once, by the estimate of what each takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from impasto.config import RunConfig
from impasto.errors import ModelFileError
from impasto.families.card import Card
from impasto.preflight import estimate

SLACK = 1.25
"""What is estimated is taken to be so many times more."""

UNKNOWN = 4
"""Runs side by side where the estimate knows nothing of the adapter's size."""

_MANY = 10_000
"""Rows at which activations outweigh all else: a way to read what one row takes out of the estimate."""


@dataclass(frozen=True)
class Packing:
    """Who trains side by side."""

    fleets: tuple[tuple[int, ...], ...]
    """Positions of the runs."""

    rows: int
    """Pictures in one forward pass, at most; 0: no limit."""


@dataclass(frozen=True)
class Need:
    """Bytes that a run takes beside the base."""

    base: float
    state: float | None
    """Weights of the adapter, gradients, optimizer. None: not known."""

    row: float
    """What one picture in a forward pass keeps for the backward pass."""

    batch: int


def need(config: RunConfig, card: Card, *, area: int, batch: int) -> Need:
    """What a run takes, from the same estimate that `impasto plan` shows."""

    def peak(rows: int, numbers: int) -> float:
        return estimate.phases(config, card, area=area, batch=rows, numbers=numbers).train

    numbers = estimate.trained_numbers(config, card)
    row = (peak(2 * _MANY, 0) - peak(_MANY, 0)) / _MANY
    state = None if numbers is None else peak(_MANY, numbers) - peak(_MANY, 0)
    return Need(peak(_MANY, 0) - row * _MANY, state, row, batch)


def pack(needs: Sequence[Need], memory: float | None, *, most: int = 0) -> Packing:
    """Divide runs, in order, into as few fleets as fit into `memory` bytes; None: nobody knows how much there is.

    What every run holds all the time must fit, and the pictures of its largest micro-batch. How many pictures may ride
    at once follows from what is left over.
    """
    fleets: list[list[int]] = [[]]
    held = 0.0
    for at, each in enumerate(needs):
        state = (each.state or 0.0) * SLACK
        largest = max([each.row * each.batch, *(needs[i].row * needs[i].batch for i in fleets[-1])]) * SLACK
        full = bool(memory) and each.base + held + state + largest > (memory or 0.0)
        limit = most or (UNKNOWN if each.state is None else 0)
        if fleets[-1] and (full or (limit and len(fleets[-1]) >= limit)):
            fleets.append([])
            held = 0.0
        fleets[-1].append(at)
        held += state
    return Packing(tuple(map(tuple, fleets)), _rows(needs, fleets, memory))


def _rows(needs: Sequence[Need], fleets: Sequence[Sequence[int]], memory: float | None) -> int:
    if memory is None:
        return 0
    rows = []
    for fleet in fleets:
        own = [needs[at] for at in fleet]
        wanted = sum(each.batch for each in own)
        left = memory - max(each.base for each in own) - SLACK * sum(each.state or 0.0 for each in own)
        fit = floor(left / (SLACK * max(each.row for each in own)))
        rows.append(0 if fit >= wanted else max(fit, max(each.batch for each in own)))
    limits = [each for each in rows if each]
    return min(limits, default=0)


def needs(configs: Sequence[RunConfig], card: Card, *, area: int) -> list[Need]:
    """The same of several runs; where the base's files do not tell, nothing is known."""
    found = []
    for config in configs:
        batch = max([config.data.batch_size, *(each.batch_size or 0 for each in config.data.sets)])
        try:
            found.append(need(config, card, area=area, batch=batch))
        except (ModelFileError, OSError):
            found.append(Need(0.0, None, 1.0, batch))
    return found
