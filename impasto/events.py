"""What a run tells while it lives: one JSON object a line, written by one process, read by many.

Nobody asks a run for its state; the command line, the web page, exporters and tests read these lines.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from impasto import files
from impasto.measured import Candidate as Candidate
from impasto.measured import Number as Number
from impasto.measured import Picked as Picked
from impasto.measured import Ranked as Ranked
from impasto.measured import Spent as Spent
from impasto.measured import Text, Told
from impasto.measured import Validated as Validated
from impasto.measured import scored as scored

Clock = Callable[[], float]


class Started(Told):
    """A process took up the run."""

    kind: Literal["started"] = "started"
    run: Text
    """Name of the run."""
    steps: int
    """Optimizer steps in all."""
    resumed_from: int | None = None
    """The step it goes on from, if it does not begin."""


class Phase(Told):
    """What the run is busy with."""

    kind: Literal["phase"] = "phase"
    name: Text
    """scan, encode, load, train, preview, save, proof ..."""
    done: int = 0
    """Parts that are done."""
    total: int = 0
    """Parts in all; 0 if nobody knows."""


class Step(Told):
    """One optimizer step."""

    kind: Literal["step"] = "step"
    step: int
    """Steps done, this one included."""
    epoch: int
    """The pass over the pictures it belongs to."""
    loss: Number
    """Mean loss of its examples."""
    rates: dict[str, float]
    """Learning rate of each part that is trained."""
    norm: Number = None
    """Length of the gradient before clipping."""
    seconds: Number = None
    """How long it took."""
    skipped: int = 0
    """Steps thrown away lately because their numbers were not finite."""
    shortened: int | None = None
    """Layers that were shortened to adapter.max_norm, where it is set."""
    length: Number = None
    """Mean length of what the layers add to the weights, where adapter.max_norm is set."""
    longest: Number = None
    """The largest of these lengths."""
    memory: int | None = None
    """Bytes of device memory in use at most, where the device tells."""


class Preview(Told):
    """A picture was drawn."""

    kind: Literal["preview"] = "preview"
    step: int
    """Steps done."""
    file: Text
    """Its file name."""
    prompt: int
    """Which prompt of the settings, from 0."""


class Saved(Told):
    """Something was written and is whole."""

    kind: Literal["saved"] = "saved"
    step: int
    """Steps done."""
    file: Text = ""
    """The adapter file, within the run's folder; empty if none was written."""
    checkpoint: str = ""
    """The checkpoint's folder name; empty if none was written."""


class Proven(Told):
    """A written adapter was loaded again on a fresh base and compared."""

    kind: Literal["proven"] = "proven"
    step: int
    """Steps done."""
    matched: int
    """Layers of the file that found their place."""
    expected: int
    """Layers that were trained."""
    difference: Number
    """Mean difference of the two pictures, in 0..1."""
    reader: Text = "diffusers"
    """Who opened the file: diffusers, or impasto itself for kinds that diffusers does not read."""


class Warned(Told):
    """Something that deserves a look; the run goes on."""

    kind: Literal["warned"] = "warned"
    code: str
    """Its code in the documentation."""
    text: Text
    """What, where and how to mend it."""


class Resumed(Told):
    """The run goes on from a checkpoint; what was told of later steps is taken back."""

    kind: Literal["resumed"] = "resumed"
    step: int
    """Steps done at that checkpoint."""


class Failed(Told):
    """The run ended with an error."""

    kind: Literal["failed"] = "failed"
    code: str
    """Its code in the documentation."""
    text: Text
    """What, where and how to mend it."""


class Dropped(Told):
    """The sweep that the run belongs to stopped it early: others did better. It could go on."""

    kind: Literal["dropped"] = "dropped"
    step: int
    """Steps done."""
    text: Text
    """Why."""


class Halted(Told):
    """The run ended before its last step because it was asked to. It could go on."""

    kind: Literal["halted"] = "halted"
    text: Text
    """Who asked."""


class Finished(Told):
    """Everything is trained and written."""

    kind: Literal["finished"] = "finished"
    step: int
    """Steps done."""
    seconds: float
    """How long it took since it was last taken up."""
    file: Text
    """The final adapter file, within the run's folder."""
    patience: int | None = None
    """validation.patience, where it ended the run before its last step."""


class Noted(Told):
    """A remark."""

    kind: Literal["noted"] = "noted"
    text: Text
    """The remark."""


Event: TypeAlias = Annotated[
    Started | Phase | Step | Preview | Validated | Picked | Ranked | Saved | Proven | Warned | Resumed | Failed
    | Dropped | Halted | Finished | Noted | Spent,
    Field(discriminator="kind"),
]  # fmt: skip

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class EventLog:
    """The one writer of a run's events. It never stops a run: what cannot be written is dropped and counted."""

    def __init__(self, path: Path, *, clock: Clock = time.time) -> None:
        self.path = path
        self.dropped = 0
        self._clock = clock
        self._missed = 0
        self._fd: int | None = None
        self._torn = False

    def write(self, event: Event) -> None:
        """Append an event, with the time of now unless it brings its own."""
        if not event.time:
            event = event.model_copy(update={"time": self._clock()})
        try:
            self._append(event)
        except OSError:
            self.dropped += 1
            self._missed += 1
            return
        if self._missed:
            self._own_up()

    def read(self) -> list[Event]:
        """All events so far."""
        return read(self.path)

    def close(self) -> None:
        """Let the file go; a later write opens it again."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            files.System.close(fd)

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, event: Event) -> None:
        fd = self._open()
        line = event.model_dump_json().encode() + b"\n"
        data = b"\n" + line if self._torn else line  # ends the half line that a kill or a full disk has left
        self._torn = True
        files.write_all(fd, data)
        self._torn = False
        if not isinstance(event, Step | Phase):
            files.System.fsync(fd)

    def _open(self) -> int:
        if self._fd is None:
            fd = files.System.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            end = os.lseek(fd, 0, os.SEEK_END)
            self._torn = end > 0 and os.pread(fd, 1, end - 1) != b"\n"
            self._fd = fd
        return self._fd

    def _own_up(self) -> None:
        missed, self._missed = self._missed, 0
        self.write(Warned(code="W-DSK-001", text=f"{missed} events could not be written to {self.path.name}"))


def read(path: Path) -> list[Event]:
    """All events of a file; half lines, damaged lines and lines of a later version are left out."""
    return tail(path)[0]


def tail(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """The events from `offset` on, and the offset to ask for next. A file that has become shorter is read anew."""
    try:
        with path.open("rb") as file:
            if offset > os.fstat(file.fileno()).st_size:
                offset = 0
            file.seek(offset)
            fresh = file.read()
    except FileNotFoundError:
        return [], 0
    whole = fresh[: fresh.rfind(b"\n") + 1]
    told = (parse(line) for line in whole.splitlines())
    return [event for event in told if event is not None], offset + len(whole)


def follow(
    path: Path, stop: Callable[[], bool], *, pause: float = 0.2, wait: Callable[[float], None] = time.sleep
) -> Iterator[Event]:
    """All events, then each new one as it comes, until `stop()` says so; what was told before that still comes."""
    offset = 0
    while True:
        last = stop()
        told, offset = tail(path, offset)
        yield from told
        if last:
            return
        if not told:
            wait(pause)


def parse(line: bytes | str) -> Event | None:
    """The event of a line, or None if it is not one that we know."""
    try:
        return _EVENT.validate_json(line)
    except ValidationError:
        return None


def measured(events: Iterable[Event]) -> dict[int, Validated]:
    """What was measured after which step, by the last telling."""
    return {each.step: each for each in history(events) if isinstance(each, Validated)}


def history(events: Iterable[Event]) -> list[Event]:
    """The events without those that a later start or resume took back: every step is told once, by its last telling."""
    kept: list[Event] = []
    for event in events:
        match event:
            case Resumed():
                kept = _up_to(event.step, kept)
            case Started():
                kept = _up_to(event.resumed_from or 0, kept)
        kept.append(event)
    return kept


def _up_to(step: int, events: list[Event]) -> list[Event]:
    return [each for each in events if not isinstance(each, _OF_A_STEP) or each.step <= step]


_OF_A_STEP = (Step, Preview, Validated, Picked, Ranked, Saved, Proven, Dropped, Finished)
