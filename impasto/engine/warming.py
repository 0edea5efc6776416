"""What is compiled before the first step: for which shapes of micro-batches, shown as a part of the start."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from impasto import events
from impasto.engine.config import Speed
from impasto.engine.packing import packs
from impasto.engine.regions import Regions
from impasto.engine.trainer import Trainer, noised
from impasto.errors import UserError
from impasto.families.blocks import repeated

if TYPE_CHECKING:
    from impasto.engine.session import Session

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


def frequent(sessions: Sequence[Session], rows: int, most: int) -> dict[Pack, tuple[int, int]]:
    """The packs that come most often in an epoch, and where each comes first: a step, and a place among its packs. Of a
    run that goes on, the same as of one that begins."""
    found: Counter[Pack] = Counter()
    first: dict[Pack, tuple[int, int]] = {}
    for step in range(min(SEEN, max(each.feed.plan.steps_per_epoch for each in sessions))):
        for at, pack in enumerate(packs(list(_meant(sessions, step)), rows)):
            found[tuple(pack)] += 1
            first.setdefault(tuple(pack), (step, at))
    return {pack: first[pack] for pack, _ in found.most_common(most)}


def _meant(sessions: Sequence[Session], step: int) -> Iterator[Meant]:
    for at, session in enumerate(sessions):
        if step < session.member.total:
            for micro in session.feed.plan.step(step):
                yield Meant(at, len(micro.visits), (micro.bucket.width, micro.bucket.height))


def warm(trainer: Trainer, sessions: Sequence[Session], speed: Speed, poll: Callable[[], None]) -> None:
    """Compile for the shapes that come most often, and say how long that took; or say why it is not to be."""
    regions = trainer.regions
    if regions is None or regions.failure is not None or not sessions:
        return
    begun = time.monotonic()
    chosen = frequent(sessions, trainer.rows, speed.shapes)
    for done, (step, at) in enumerate(chosen.values()):
        for session in sessions:
            session.tell(events.Phase(name="compile", done=done, total=len(chosen)))
        poll()
        try:
            _rehearse(trainer, sessions, step, at)
        except (UserError, torch.OutOfMemoryError):
            continue  # the step itself will know what to do, and say so
        except RuntimeError as error:
            regions.give_up(error)
            break
    told = _told(regions, len(trainer.compiled), time.monotonic() - begun)
    for session in sessions:
        session.tell(told)
        session.touch_clock()


def _rehearse(trainer: Trainer, sessions: Sequence[Session], step: int, at: int) -> None:
    """The pack of a step, without the step."""
    parts = [
        part
        for session in sessions
        if step < session.member.total
        for part in noised(session.member, session.source.step(step))
    ]
    trainer.look(parts)
    if at < len(found := packs(parts, trainer.rows)):  # captions of other lengths make other packs
        trainer.rehearse(found[at])


def _told(regions: Regions, packs: int, seconds: float) -> events.Event:
    if regions.failure is not None:
        text = f"the blocks cannot be compiled, so they run uncompiled: {regions.failure}"
        return events.Warned(code="W-CMP-001", text=text)
    text = f"compiled {regions.blocks} blocks for {packs} shapes of micro-batches: {regions.graphs} graphs"
    return events.Noted(text=f"{text} in {seconds:.0f} s")
