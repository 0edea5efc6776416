"""Times of things that take turns. What else the machine does then hits all of them, and their ratios hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from impasto.bench.figures import Figure


@dataclass(frozen=True)
class Span:
    """What something took."""

    wall: float
    """Seconds."""

    processor: float
    """Seconds of all threads of this process: on a busy machine they scatter less."""


class Clock:
    """Reads the time once the device has done what it was asked for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def now(self) -> Span:
        """The moment."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return Span(time.perf_counter(), time.process_time())

    def since(self, start: Span) -> Span:
        """What went by."""
        now = self.now()
        return Span(now.wall - start.wall, now.processor - start.processor)

    def timed(self, act: Callable[[], object]) -> Span:
        """What `act` takes."""
        start = self.now()
        act()
        return self.since(start)


def in_turns(clock: Clock, acts: Mapping[str, Callable[[], object]], rounds: int, warm: int) -> dict[str, list[Span]]:
    """Each of `acts` once a round. The first `warm` rounds do not count."""
    found: dict[str, list[Span]] = {name: [] for name in acts}
    for at in range(warm + rounds):
        for name, act in acts.items():
            span = clock.timed(act)
            if at >= warm:
                found[name].append(span)
    return found


def rates(spans: Mapping[str, list[Span]], count: int, unit: str) -> list[Figure]:
    """How many a second, by the clock and by the processor."""
    return [
        Figure(name=f"{name}{kind}", unit=unit, values=[count / take(each) for each in some], better="more")
        for kind, take in (("", wall), (", processor", processor))
        for name, some in spans.items()
    ]


def wall(span: Span) -> float:
    """Seconds by the clock."""
    return span.wall


def processor(span: Span) -> float:
    """Seconds by the processor."""
    return span.processor
