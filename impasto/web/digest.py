"""What a line in the table of runs needs of a run's events, kept up to date by reading new lines only."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from impasto.web.lines import Mark, fresh, number, parsed, text, whole

End = Literal["", "finished", "failed", "dropped", "halted"]
_ENDS: dict[str, End] = {"finished": "finished", "failed": "failed", "dropped": "dropped", "halted": "halted"}

RECENT = 20
"""Losses, and times of steps, that are averaged."""
SPARK = 48
"""Points of the small curve, at most."""
SOME = 8
_PARTS = 32
"""Parts of a run's time, at most."""
_STEP = b'"kind":"step"'
_BEFORE = ("scan", "load", "encode")
"""Phases before the first step of a process."""


@dataclass
class Digest:
    """How far a run is, by what it told."""

    mark: Mark = field(default_factory=Mark)
    total: int = 0
    step: int = 0
    epoch: int = 0
    phase: str = ""
    phase_done: int = 0
    phase_total: int = 0
    trains: bool = False
    """Whether the process that told last has taken steps."""
    end: End = ""
    reason: str = ""
    """Why it ended."""
    validation: float | None = None
    started: float | None = None
    last_sign: float | None = None
    preview: str | None = None
    recommended: str | None = None
    file: str | None = None
    warnings: int = 0
    memory: int | None = None
    spent: dict[str, float] = field(default_factory=dict)
    """Seconds of each part of the run."""
    expected: float | None = None
    """Seconds a step took in earlier runs of this kind on this machine."""
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    spark: list[float] = field(default_factory=list)
    stride: int = 1
    """Steps for each point of the small curve."""
    taken: int = 0
    summed: float = 0.0

    @property
    def loss(self) -> float | None:
        """The mean of the last losses."""
        return fmean(self.losses) if self.losses else None

    @property
    def seconds_per_step(self) -> float | None:
        """How long a step takes, of late."""
        return fmean(self.seconds) if self.seconds else None

    @property
    def eta(self) -> float | None:
        """Seconds until all steps are done."""
        pace = self.seconds_per_step
        return None if pace is None or not self.total else pace * max(0, self.total - self.step)

    def note(self, event: Mapping[str, Any]) -> None:
        """Take in an event."""
        kind, time = event["kind"], number(event.get("time"))
        if time:
            self.started = time if self.started is None else self.started
            self.last_sign = time
        if kind in _ENDS:
            self._over(kind, event)
        elif kind in ("phase", "started", "resumed", "step"):
            self._lives(kind, event)
        else:
            self._made(kind, event)

    def _over(self, kind: str, event: Mapping[str, Any]) -> None:
        self.end, self.reason, self.phase = _ENDS[kind], text(event.get("text")), ""
        if kind == "finished":
            self.step, self.file = whole(event.get("step")), text(event.get("file")) or None
            if event.get("patience"):
                self.reason = "it stopped early: the loss on held-out pictures fell no further"

    def _lives(self, kind: str, event: Mapping[str, Any]) -> None:
        if self.end:
            self.end, self.reason, self.trains = "", "", False
        match kind:
            case "phase":
                self.phase = text(event.get("name"))
                self.phase_done, self.phase_total = whole(event.get("done")), whole(event.get("total"))
                if self.phase.split(" ")[0] in _BEFORE:
                    self.trains = False
            case "started":
                self.total, self.step = whole(event.get("steps")), whole(event.get("resumed_from"))
                self.seconds.clear()
            case "resumed":
                self.step = whole(event.get("step"))
            case _:
                self._steps(event)

    def _steps(self, event: Mapping[str, Any]) -> None:
        self.step, self.epoch = whole(event.get("step")), whole(event.get("epoch"))
        self.phase, self.phase_done, self.phase_total, self.trains = "", 0, 0, True
        self.memory = whole(event.get("memory")) or self.memory
        if (seconds := number(event.get("seconds"))) is not None:
            self.seconds.append(seconds)
        if (loss := number(event.get("loss"))) is not None:
            self.losses.append(loss)
            self._draw(loss)

    def _draw(self, loss: float) -> None:
        self.taken, self.summed = self.taken + 1, self.summed + loss
        if self.taken < self.stride:
            return
        self.spark.append(self.summed / self.taken)
        self.taken, self.summed = 0, 0.0
        if len(self.spark) >= SPARK:
            self.spark = [(left + right) / 2 for left, right in zip(self.spark[::2], self.spark[1::2], strict=True)]
            self.stride *= 2

    def _made(self, kind: str, event: Mapping[str, Any]) -> None:
        match kind:
            case "preview":
                self.preview = text(event.get("file")) or self.preview
            case "validated":
                self.validation = mean(event.get("losses")) or mean(event.get("training"))
            case "warned":
                self.warnings += 1
            case "picked":
                listed = event.get("candidates")
                found = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
                best = next((each for each in found if each.get("recommended")), found[0] if found else {})
                self.recommended = text(best.get("file")) or None
            case "spent":
                self.expected = number(event.get("expected"))
                parts = event.get("parts")
                for part, seconds in list(parts.items())[:_PARTS] if isinstance(parts, dict) else ():
                    self.spent[part] = self.spent.get(part, 0.0) + (number(seconds) or 0.0)
            case _:
                pass


def mean(losses: object) -> float | None:
    """The mean over the noise levels; None if there are none, or one is no number."""
    if not isinstance(losses, dict) or not losses:
        return None
    found = [value for each in losses.values() if (value := number(each)) is not None]
    return fmean(found) if len(found) == len(losses) else None


def read(path: Path, before: Digest | None = None) -> Digest:
    """The digest of a file of events; `before` is brought up to date where the file has only grown."""
    found = before or Digest()
    for lines in fresh(path, found.mark):
        if found.mark.lines == len(lines) and (found.started is not None or found.total):
            mark, found = found.mark, Digest()  # another file: nothing of the old one counts
            found.mark = mark
        for line in _telling(lines):
            if (event := parsed(line)) is not None:
                found.note(event)
    return found


def _telling(lines: list[bytes]) -> Iterator[bytes]:
    """All that are no steps, the last steps, and some of those before: a long run is read in a moment."""
    end = len(lines) - 2 * RECENT
    for at, line in enumerate(lines):
        if at >= end or at % SOME == 0 or _STEP not in line:
            yield line
