"""What is compiled and recorded before the first step, and for which shapes of micro-batches."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from impasto import events
from impasto.data.plan import Plan
from impasto.engine.config import Speed
from impasto.engine.member import Member
from impasto.engine.packing import Part, packs
from impasto.engine.regions import Regions, first_line
from impasto.engine.tapes import CudaGraphs, Recorder
from impasto.engine.trainer import Trainer, noised
from impasto.errors import UserError
from impasto.families.blocks import repeated

if TYPE_CHECKING:
    from impasto.engine.session import Session

Poll = Callable[[], None]

SEEN = 1000
"""Steps of a run that are looked at to find its shapes, at most; an epoch if that is shorter."""

KEPT = "TORCHINDUCTOR_CACHE_DIR"
"""What torch calls the folder where it keeps what it compiled."""


@contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """What is compiled is kept in `folder` for the next run, unless the environment names another one."""
    if KEPT in os.environ:
        yield
        return
    os.environ[KEPT] = str(folder)
    try:
        yield
    finally:
        del os.environ[KEPT]


def compiler(speed: Speed) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """torch.compile as the settings want it: all of a function or none of it, for fixed shapes."""
    options: dict[str, Any] = {}
    if speed.backend == "inductor" and speed.autotune:
        options["mode"] = "max-autotune-no-cudagraphs"
    return partial(torch.compile, fullgraph=True, dynamic=False, backend=speed.backend, **options)


def prepared(trainer: Trainer, speed: Speed) -> Regions | None:
    """The blocks to compile, where the settings want any compiled."""
    if speed.compile == "off":
        return None
    denoiser = trainer.family.lending.denoiser.module
    return Regions(repeated(denoiser), trainer.family.targets(), trainer.riders, compiler(speed))


class Warming:
    """Makes a fleet fast before it steps, and again when others than before share its packs."""

    def __init__(self, trainer: Trainer, speed: Speed, recorder: Recorder | None = None) -> None:
        self._trainer = trainer
        self._speed = speed
        self._recorder = recorder
        self._company: tuple[Sequence[Member], int] | None = None
        self._said = False
        if recorder is None and speed.graphs and trainer.compute.device.type == "cuda":
            self._recorder = CudaGraphs(trainer.compute.device)
        trainer.regions = prepared(trainer, speed)

    def warm(self, sessions: Sequence[Session], poll: Poll) -> None:
        """Compile, then record, for the shapes that come most often; say how long that took, or why it is not to be."""
        trainer = self._trainer
        self._say_of_failure(sessions)
        company = (tuple(trainer.members), trainer.rows)
        compiles = trainer.regions is not None and trainer.regions.failure is None
        if company == self._company or not (compiles or self._speed.graphs):
            return
        first, self._company = self._company is None, company
        courses = [Course(each.feed.plan, each.member.total) for each in sessions]
        chosen = frequent(courses, trainer.rows, self._speed.shapes)
        if compiles:
            self._compile(sessions, chosen, poll)
        if self._recorder is not None:
            self._record(sessions, chosen, poll)
        elif self._speed.graphs and first:
            why = f"{trainer.compute.device.type} knows none"
            _tell(sessions, events.Warned(code="W-CMP-002", text=f"no graphs are recorded: {why}"))
        for session in sessions:
            session.touch_clock()

    def _compile(self, sessions: Sequence[Session], chosen: Sequence[Spot], poll: Poll) -> None:
        begun, trainer = time.monotonic(), self._trainer
        regions = trainer.regions
        assert regions is not None
        _, error = _each(trainer, sessions, chosen, "compile", trainer.rehearse, poll)
        if error is not None:
            regions.give_up(error)
            return self._say_of_failure(sessions)
        text = f"compiled {regions.blocks} blocks for {len(trainer.compiled)} shapes of micro-batches: "
        text += f"{regions.graphs} graphs in {time.monotonic() - begun:.0f} s"
        return _tell(sessions, events.Noted(text=text))

    def _say_of_failure(self, sessions: Sequence[Session]) -> None:
        """Once, whether it failed ahead or in a step."""
        regions = self._trainer.regions
        if regions is not None and regions.failure is not None and not self._said:
            self._said = True
            text = f"the blocks cannot be compiled, so they run uncompiled: {regions.failure}"
            _tell(sessions, events.Warned(code="W-CMP-001", text=text))

    def _record(self, sessions: Sequence[Session], chosen: Sequence[Spot], poll: Poll) -> None:
        begun, trainer = time.monotonic(), self._trainer
        assert self._recorder is not None
        done, error = _each(
            trainer, sessions, chosen, "record", partial(trainer.record, recorder=self._recorder), poll
        )  # fmt: skip
        if error is not None or not any(done):
            self._recorder = None
            trainer.tapes.clear()
            why = "dice or text encoders are in every step" if error is None else first_line(error)
            _tell(sessions, events.Warned(code="W-CMP-002", text=f"no graphs are recorded: {why}"))
            return
        text = f"recorded both passes for {len(trainer.tapes)} shapes of micro-batches"
        _tell(sessions, events.Noted(text=f"{text} in {time.monotonic() - begun:.0f} s"))


@dataclass(frozen=True)
class Meant:
    """A part of a pack to be, of which only the shape is known."""

    member: int
    rows: int
    sides: tuple[int, int]

    def shape(self) -> tuple[object, ...]:
        """What must be equal for two parts to be one batch."""
        return self.sides


Pack = tuple[Meant, ...]


class Course(NamedTuple):
    """What a run trains on, and for how many steps."""

    plan: Plan
    total: int


Spot = tuple[int, int]
"""Where a pack comes: a step, and a place among its packs."""


def frequent(courses: Sequence[Course], rows: int, most: int) -> list[Spot]:
    """Where the packs that come most often in an epoch come first. Of a run that goes on, the same as of one that
    begins."""
    found: Counter[Pack] = Counter()
    first: dict[Pack, Spot] = {}
    for step in range(min(SEEN, max(each.plan.steps_per_epoch for each in courses))):
        for at, pack in enumerate(packs(list(_meant(courses, step)), rows)):
            found[tuple(pack)] += 1
            first.setdefault(tuple(pack), (step, at))
    return [first[pack] for pack, _ in found.most_common(most)]


def _meant(courses: Sequence[Course], step: int) -> Iterator[Meant]:
    for at, course in enumerate(courses):
        if step < course.total:
            for micro in course.plan.step(step):
                yield Meant(at, len(micro.visits), (micro.bucket.width, micro.bucket.height))


def _each(
    trainer: Trainer,
    sessions: Sequence[Session],
    chosen: Sequence[Spot],
    phase: str,
    act: Callable[[Sequence[Part]], bool],
    poll: Poll,
) -> tuple[list[bool], RuntimeError | None]:
    """`act` with a pack of each shape; what it said, and what ended it."""
    said: list[bool] = []
    for done, (step, at) in enumerate(chosen):
        _tell(sessions, events.Phase(name=phase, done=done, total=len(chosen)))
        poll()
        try:
            parts = _parts(sessions, step)
        except UserError:
            continue  # the step itself will say so
        try:
            trainer.look(parts)
            if at < len(found := packs(parts, trainer.rows)):  # captions of other lengths make other packs
                said.append(act(found[at]))
        except torch.OutOfMemoryError:
            continue  # the step itself will know what to do
        except RuntimeError as error:
            return said, error
    return said, None


def _parts(sessions: Sequence[Session], step: int) -> list[Part]:
    """What a step trains on, without the step."""
    return [
        part
        for session in sessions
        if step < session.member.total
        for part in noised(session.member, session.source.step(step))
    ]


def _tell(sessions: Sequence[Session], event: events.Event) -> None:
    for session in sessions:
        session.tell(event)
