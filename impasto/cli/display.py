"""Training as it is watched: a line for each member that is redrawn in place, or plain lines now and then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from impasto import events
from impasto.cli.text import amount, columns, duration, number
from impasto.events import Event

Show = Callable[[Path, Event], None]

EVERY = 5.0
"""Seconds between two plain lines of a member."""

_SMOOTH = 0.95


@dataclass
class Row:
    """What is known of a member."""

    name: str
    total: int = 0
    step: int = 0
    phase: str = ""
    loss: float | None = None
    """Smoothed."""
    rates: dict[str, float] = field(default_factory=dict)
    pace: float | None = None
    """Seconds a step takes, smoothed."""
    expected: float | None = None
    """Seconds a step took in earlier runs of this kind."""
    spent: dict[str, float] = field(default_factory=dict)
    """Seconds of each part of the run, as far as told."""
    memory: int | None = None
    told_at: float = float("-inf")

    def take(self, event: Event) -> str | None:
        """Learn from an event; returns the line to leave behind if it is worth one."""
        match event:
            case events.Started():
                self.total, self.step, self.pace = event.steps, event.resumed_from or 0, None
                return f"goes on from step {self.step}" if event.resumed_from else None
            case events.Resumed():
                self.step = event.step
            case events.Phase():
                parts = f" {event.done}/{event.total}" if event.total else ""
                self.phase = "" if event.name == "train" else event.name + parts
            case events.Step():
                self._take_step(event)
            case events.Saved():
                return f"step {event.step}: saved {event.file or event.checkpoint}"
            case events.Preview():
                return f"step {event.step}: drew {event.file}"
            case events.Validated():
                return f"step {event.step}: {measured(event)}"
            case events.Picked():
                return picked(event)
            case events.Ranked():
                return ranks(event)
            case events.Proven():
                return f"step {event.step}: proof, {event.matched} of {event.expected} layers found their place"
            case events.Warned():
                return event.text
            case events.Failed():
                self.phase = "failed"
                return f"failed: {event.text}"
            case events.Dropped():
                self.step, self.phase = event.step, "dropped"
                return f"step {event.step}: dropped, {event.text}"
            case events.Halted():
                self.phase = "stopped"
                return event.text
            case events.Noted():
                return event.text
            case events.Spent():
                return self._take_spent(event)
            case events.Finished():
                self.step, self.phase = event.step, "finished"
                early = f" early ({event.patience} measurements without a lower loss)," if event.patience else ""
                went = f"\n  time went into {shares(self.spent)}" if self.spent else ""
                return f"finished{early} {event.step} steps in {duration(event.seconds)}: {event.file}{went}"
        return None

    def _take_spent(self, event: events.Spent) -> str | None:
        self.expected = event.expected
        for part, seconds in event.parts.items():
            self.spent[part] = self.spent.get(part, 0.0) + seconds
        if event.steps or self.step >= self.total:
            return None
        usual = f"; a step took {event.expected:.3g} s in earlier runs of this kind" if event.expected else ""
        return f"ready after {event.seconds:.1f} s: {seconds_of(event.parts)}{usual}"

    def _take_step(self, event: events.Step) -> None:
        self.step, self.rates, self.phase = event.step, event.rates, ""
        self.memory = event.memory if event.memory is not None else self.memory
        if event.loss is not None:
            self.loss = _smoothed(self.loss, event.loss)
        if event.seconds:
            self.pace = _smoothed(self.pace, event.seconds)

    def line(self) -> str:
        """All of it in one line, the most needed first."""
        parts = [f"{self.name} {self.step}/{self.total or '?'}"]
        if self.phase:
            parts.append(self.phase)
        if self.loss is not None:
            parts.append(f"loss {number(self.loss)}")
        if self.pace:
            left = (self.total - self.step) * self.pace
            usual = f" (usual {1 / self.expected:.3g})" if self.expected else ""
            parts += [f"{1 / self.pace:.3g} steps/s{usual}", *([f"{duration(left)} left"] if left > 0 else [])]
        if self.rates:
            parts.append("rate " + "/".join(f"{rate:.3g}" for rate in dict.fromkeys(self.rates.values())))
        if self.memory:
            parts.append(amount(self.memory))
        return "  ".join(parts)


def shares(spent: Mapping[str, float]) -> str:
    """Of the time, what went into which part, the most first; what is under one in a hundred is left out."""
    whole = sum(spent.values())
    ordered = sorted(spent.items(), key=lambda each: -each[1])
    return ", ".join(f"{part} {seconds / whole:.0%}" for part, seconds in ordered if seconds >= 0.01 * whole)


def seconds_of(spent: Mapping[str, float]) -> str:
    """The seconds of each part, the most first; what is under a tenth is left out."""
    ordered = sorted(spent.items(), key=lambda each: -each[1])
    return ", ".join(f"{part} {seconds:.1f} s" for part, seconds in ordered if seconds >= 0.1)


def measured(event: events.Validated) -> str:
    """The loss with fixed noise on held-out and on training pictures, and what lies between."""
    parts = [f"loss on held-out pictures {number(event.loss) or 'not finite'}"] if event.losses else []
    parts += [f"on training pictures {number(event.training_loss) or 'not finite'}"] if event.training else []
    gap = f" (gap {event.gap:+.3g})" if event.gap is not None else ""
    return ("" if event.losses else "loss ") + ", ".join(parts) + gap


def picked(event: events.Picked) -> str:
    """The shortlist, each with what speaks for it and what was measured."""
    lines = ["worth a try:"]
    for each in event.candidates:
        seen = events.Validated(step=each.measured_at, losses=each.losses, training=each.training)
        lines.append(f"{'* ' if each.recommended else '  '}{each.file} (step {each.step}): {each.reason}")
        when = "" if each.measured_at == each.step else f", at step {each.measured_at}"
        if seen.losses or seen.training:
            lines.append(f"    {measured(seen)}{when}")
        if each.scores:
            lines.append(f"    drawn: {events.scored(each.scores)}")
    return "\n".join(lines)


def ranks(event: events.Ranked) -> str:
    """A table: the loss at each rank, and how much of what the whole adapter gains it keeps."""
    means = event.means()
    most = max(means, default=0)
    gain = means.get(0, 0.0) - means.get(most, 0.0)
    rows = [
        [
            "base alone" if rank == 0 else str(rank),
            number(mean),
            f"{(means[0] - mean) / gain:.0%}" if gain > 0 else "",
            event.files.get(str(rank), ""),
        ]
        for rank, mean in means.items()
    ]
    head = f"loss by rank, on {event.count} {event.pictures} pictures"
    return f"{head}\n{columns(['rank', 'loss', 'of the gain', 'file'], rows)}"


@contextmanager
def watching(members: int, stream: TextIO, *, plain: bool) -> Iterator[Show]:
    """Show events on `stream` for as long as the `with` lasts: live on a terminal, else as plain lines."""
    if plain or not stream.isatty() or os.environ.get("TERM") == "dumb":
        yield Lines(stream).show
        return
    with _live(stream, members) as show:
        yield show


class Lines:
    """Plain lines: one for what happened, one every few seconds for how it goes."""

    def __init__(self, stream: TextIO, *, every: float = EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._every = every
        self._clock = clock
        self._rows: dict[Path, Row] = {}

    def show(self, folder: Path, event: Event) -> None:
        """Take an event in."""
        row = self._rows.setdefault(folder, Row(folder.name))
        phase = row.phase
        happened = row.take(event)
        if happened:
            self._print(f"{row.name}: {happened}")
        now = self._clock()
        last = isinstance(event, events.Step) and event.step == row.total
        due = isinstance(event, events.Step | events.Phase) and now - row.told_at >= self._every
        if (
            due
            or last
            or row.phase.partition(" ")[0] not in (phase.partition(" ")[0], "", "failed", "finished", "dropped")
        ):
            row.told_at = now
            self._print(row.line())

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


@contextmanager
def _live(stream: TextIO, members: int) -> Iterator[Show]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    rows: dict[Path, Row] = {}

    def drawn() -> Group:
        room = max(1, console.height - 2)
        lines = [Text(row.line(), no_wrap=True, overflow="crop") for row in list(rows.values())[:room]]
        if len(rows) > room:
            lines[-1] = Text(f"and {len(rows) - room + 1} more", no_wrap=True, overflow="crop")
        return Group(*lines)

    with Live(get_renderable=drawn, console=console, refresh_per_second=4 if members < 20 else 1) as live:

        def show(folder: Path, event: Event) -> None:
            row = rows.setdefault(folder, Row(folder.name))
            if happened := row.take(event):
                live.console.print(f"{row.name}: {happened}", markup=False)

        yield show


def _smoothed(before: float | None, now: float) -> float:
    return now if before is None else _SMOOTH * before + (1 - _SMOOTH) * now
