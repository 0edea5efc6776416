"""All that a run told, in columns: its curves, its log, its pictures, what it saved. Read once, then new lines only."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from impasto.web.digest import mean
from impasto.web.lines import LARGEST, Mark, fresh, number, parsed, text, whole
from impasto.web.story import Told, tell

NAN = float("nan")
_CURVES = ("loss", "norm", "seconds", "memory", "length", "longest")
_PARTS = 64
"""Rates of a step, or noise levels of a measurement, at most."""
KEPT = 8
"""Runs whose tapes are kept in memory; 200,000 steps are about 15 MB."""
MESSAGES = 5000
"""Of the log, at most; the oldest go."""


@dataclass
class Column:
    """A curve. Steps rise."""

    x: array[int] = field(default_factory=lambda: array("q"))
    t: array[float] = field(default_factory=lambda: array("d"))
    y: array[float] = field(default_factory=lambda: array("d"))

    def add(self, step: int, time: float, value: object) -> None:
        """One point. What was told of this step or later ones before is taken back."""
        if self.x and step <= self.x[-1]:
            self.cut(step - 1)
        self.x.append(step)
        self.t.append(time)
        if type(value) is float and -LARGEST < value < LARGEST:
            self.y.append(value)
        else:
            found = number(value)
            self.y.append(NAN if found is None else found)

    def cut(self, step: int) -> None:
        """Forget what comes after a step."""
        at = bisect_right(self.x, step)
        del self.x[at:], self.t[at:], self.y[at:]


@dataclass
class Tape:
    """What a run told."""

    mark: Mark = field(default_factory=Mark)
    columns: dict[str, Column] = field(default_factory=dict)
    epochs: Column = field(default_factory=Column)
    previews: dict[tuple[int, int], str] = field(default_factory=dict)
    """By step and prompt."""
    saved: dict[int, set[str]] = field(default_factory=dict)
    """Adapter files by step."""
    proven: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    measured: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    picked: list[Mapping[str, Any]] = field(default_factory=list)
    messages: list[Told] = field(default_factory=list)
    markers: list[tuple[int, float, str, str]] = field(default_factory=list)
    step: int = 0

    def note(self, line: int, event: Mapping[str, Any]) -> None:
        """Take in an event."""
        kind, time = event["kind"], number(event.get("time")) or 0.0
        match kind:
            case "step":
                self._step(event, time)
            case "started" | "resumed":
                key = "resumed_from" if kind == "started" else "step"
                self._back(whole(event.get(key)))
            case "preview":
                key_of = (whole(event.get("step")), whole(event.get("prompt")))
                self.previews[key_of] = text(event.get("file"))
            case "saved":
                if file := text(event.get("file")):
                    self.saved.setdefault(whole(event.get("step")), set()).add(file)
            case "proven":
                self.proven[whole(event.get("step"))] = event
            case "validated":
                self._measured(event, time)
            case "picked":
                listed = event.get("candidates")
                self.picked = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
            case _:
                pass
        if (said := tell(line, self.step, event)) is not None:
            self.messages.append(said)
            if len(self.messages) > MESSAGES:
                del self.messages[: MESSAGES // 10]
            if said.level != "note" and kind != "preview":
                self.markers.append((self.step, time, kind, said.text))

    def _step(self, event: Mapping[str, Any], time: float) -> None:
        step = self.step = whole(event.get("step"))
        for name in _CURVES:
            value = event.get(name)
            if value is not None or name == "loss":
                self._column(name).add(step, time, value)
        rates = event.get("rates")
        if isinstance(rates, dict) and len(rates) <= _PARTS:
            for part, rate in rates.items():
                self._column(f"rate.{part}").add(step, time, rate)
        self.epochs.add(step, time, whole(event.get("epoch")))

    def _measured(self, event: Mapping[str, Any], time: float) -> None:
        step = whole(event.get("step"))
        self.measured[step] = event
        for name, key in (("validation", "losses"), ("training", "training")):
            losses = event.get(key)
            if isinstance(losses, dict) and losses:
                self._column(name).add(step, time, mean(losses))
                for noise, loss in list(losses.items())[:_PARTS]:
                    self._column(f"{name}.{noise}").add(step, time, loss)

    def _back(self, step: int) -> None:
        """The run goes on from a step: what came after it is taken back."""
        self.step = step
        for column in (*self.columns.values(), self.epochs):
            column.cut(step)
        self.previews = {key: file for key, file in self.previews.items() if key[0] <= step}
        for kept in (self.saved, self.proven, self.measured):
            for each in [each for each in kept if each > step]:
                del kept[each]
        self.picked = []

    def _column(self, name: str) -> Column:
        column = self.columns.get(name)
        if column is None:
            column = self.columns[name] = Column()
        return column


class Tapes:
    """The tapes that were asked for last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, Tape] = OrderedDict()
        self._turn = threading.Lock()

    @contextmanager
    def of(self, path: Path) -> Iterator[Tape]:
        """The tape of a file of events, up to date; for the block nobody else winds it on."""
        with self._turn:
            tape = self._kept[path] = wind(path, self._kept.pop(path) if path in self._kept else Tape())
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            yield tape


def wind(path: Path, tape: Tape) -> Tape:
    """Read what is new; another file of the same name is read anew."""
    for lines in fresh(path, tape.mark):
        if tape.mark.lines == len(lines) and (tape.columns or tape.messages):
            tape = Tape(tape.mark)
        first = tape.mark.lines - len(lines)
        for at, line in enumerate(lines, start=first):
            if (event := parsed(line)) is not None:
                tape.note(at, event)
    return tape
