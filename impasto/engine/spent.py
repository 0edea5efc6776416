"""Where a run's time goes, told without waiting for the device."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from statistics import median
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch

from impasto.measured import Spent

EVERY = 10.0
"""Seconds between two tellings."""

WARMING = 3
"""Steps at the start of a process that are slower than the rest: their times are left out."""

SLOWER = 1.5
"""So many times what earlier runs took is worth a word."""

ENOUGH = 20
"""Steps by which that is told."""

HOST = "data"
"""The part of a step that the host does by itself: waiting for pictures, drawing noise."""


class Stopwatch:
    """The parts of a step, of all members together. A device that works by itself is asked by marks in its own line of
    work, which are read once it has come by them."""

    def __init__(self, device: torch.device) -> None:
        self.alone = device.type in ("cuda", "xpu")
        """Whether the device goes on while the host does something else."""
        self._device = device
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._marks: deque[tuple[str, torch.Event, torch.Event]] = deque()

    @contextmanager
    def at(self, part: str) -> Iterator[None]:
        """What is done now belongs to `part`."""
        if self.alone and part != HOST:
            begun, ended = (torch.Event(self._device, enable_timing=True) for _ in range(2))
            begun.record()
            yield
            ended.record()
            self._marks.append((part, begun, ended))
            return
        since = time.perf_counter()
        try:
            yield
        finally:
            self._sums[part] += time.perf_counter() - since

    def read(self) -> dict[str, float]:
        """Seconds of each part so far."""
        while self._marks and self._marks[0][2].query():
            part, begun, ended = self._marks.popleft()
            self._sums[part] += begun.elapsed_time(ended) / 1000
        return dict(self._sums)


@dataclass
class Spending:
    """What a run's seconds were spent on since it last told. Every second counts once."""

    clock: Callable[[], float] = time.monotonic
    _sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _part: str = "start"
    """What it is busy with; empty in the loop of steps, where the stopwatch tells."""
    _since: float = field(init=False)
    _told: float = field(init=False)
    _seen: Mapping[str, float] = field(default_factory=dict)
    _at: int = 0
    _recent: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    """Seconds of each step of this process, but the first ones."""
    expected: float | None = None
    """Seconds of a step in earlier runs of the same kind."""
    _steps: int = -1
    _warned: bool = False

    def __post_init__(self) -> None:
        self._since = self._told = self.clock()

    def turn(self, part: str) -> str:
        """From now on it is busy with `part`; returns with what before."""
        now, before = self.clock(), self._part
        self._sums[before] += now - self._since
        self._since, self._part = now, part
        return before

    @contextmanager
    def at(self, part: str) -> Iterator[None]:
        """Busy with `part` for as long as the `with` lasts; what is within another `with` is that one's."""
        before = self.turn(part)
        try:
            yield
        finally:
            self.turn(before)

    def lend(self, seconds: float, part: str) -> None:
        """So much of the loop's time went to something else."""
        self._sums[part] += seconds
        self._sums[""] -= seconds

    @property
    def starting(self) -> bool:
        """Whether the steps have not begun."""
        return self._steps < 0

    def begin(self, step: int, watch: Stopwatch) -> None:
        """The steps begin behind `step`."""
        self._at, self._seen, self._steps = step, watch.read(), 0
        self.turn("")

    def step(self, seconds: float) -> str | None:
        """One more step took so long; returns a warning where that is much longer than it was in earlier runs."""
        self._steps += 1
        if self._steps <= WARMING:
            return None
        self.taken.append(seconds)
        self._recent.append(seconds)
        if self._warned or self.expected is None or len(self.taken) < ENOUGH:
            return None
        now = median(self.taken[-ENOUGH:])
        if now < SLOWER * self.expected:
            return None
        self._warned = True
        times = now / self.expected
        return (
            f"a step takes {now:.3g} s, {times:.1f} times the {self.expected:.3g} s of earlier runs of this kind here"
        )

    @property
    def due(self) -> bool:
        """Whether it is time to tell."""
        return self.clock() - self._told >= EVERY

    def told(self, step: int, watch: Stopwatch) -> Spent:
        """What was spent on what since it was last told, by `step` steps done."""
        self.turn(self._part)
        now = watch.read()
        steps = {part: seconds - self._seen.get(part, 0.0) for part, seconds in now.items()}
        loop = max(0.0, self._sums.pop("", 0.0))
        if watch.alone and HOST in steps:  # what the host does while the device works costs nothing
            steps[HOST] = max(0.0, min(steps[HOST], loop - sum(steps.values()) + steps[HOST]))
        steps["other"] = max(0.0, loop - sum(steps.values()))
        whole = self._since - self._told
        event = Spent(
            step=step,
            steps=max(0, step - self._at),
            seconds=whole,
            parts={part: seconds for part, seconds in {**self._sums, **steps}.items() if seconds > 0},
            pace=median(self._recent) if self._recent else None,
            expected=self.expected,
        )
        self._sums.clear()
        self._recent.clear()
        self._seen, self._at, self._told = now, step, self._since
        return event


class _Spends(Protocol):
    spending: Spending


S = TypeVar("S", bound=_Spends)
P = ParamSpec("P")
R = TypeVar("R")


def during(part: str) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """A method whose time is spent on `part`."""

    def decorate(act: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        @wraps(act)
        def timed(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            with self.spending.at(part):
                return act(self, *args, **kwargs)

        return timed

    return decorate
