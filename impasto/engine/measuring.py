"""What of a run is measured while it trains, when, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from impasto import events
from impasto.data.batch import Batch
from impasto.engine import validate
from impasto.engine.pick import Curve
from impasto.engine.trainer import Trainer

if TYPE_CHECKING:
    from impasto.engine.session import Session


@dataclass
class Gauge:
    """The pictures of a run that are measured, and the steps after which they are."""

    held: Sequence[Batch] = ()
    beside: Sequence[Batch] = ()
    due: frozenset[int] = frozenset()
    curve: Curve = field(default_factory=Curve)

    @property
    def pictures(self) -> int:
        """Held-out pictures that are measured."""
        return sum(len(batch.keys) for batch in self.held)

    def is_due(self, step: int) -> bool:
        """Whether it is to be measured after `step` steps, and was not yet."""
        return step in self.due and all(each.step != step for each in self.curve.told)


def measure(trainer: Trainer, due: Sequence[Session], everyone: Sequence[Session], poll: Callable[[], None]) -> None:
    """Measure the runs that are `due`, all in one go; too little memory for it is a warning, no end of a training."""
    begun = time.monotonic()
    for session in due:
        session.tell(events.Phase(name="validation"))
    asked = [
        validate.Asked(session.member, batches)
        for session in due
        for batches in (session.gauge.held, session.gauge.beside)
    ]
    try:
        found = validate.losses(trainer, asked, poll)
    except torch.OutOfMemoryError:
        text = "no memory to measure the loss; lower device.rows or validation.pictures"
        for session in due:
            session.tell(events.Warned(code="W-MEM-003", text=text))
        found = []
    for session, held, beside in zip(due, found[::2], found[1::2], strict=False):
        _take(session, held, beside)
    for session in everyone:  # nobody's steps took longer by it
        session.wait_for(time.monotonic() - begun, "validation")


def _take(session: Session, held: dict[int, float], beside: dict[int, float]) -> None:
    event = events.Validated(
        step=session.member.step,
        losses={str(t): loss for t, loss in held.items()},
        training={str(t): loss for t, loss in beside.items()},
        pictures=session.gauge.pictures,
    )
    session.tell(event)
    with session.member.averaged():
        session.gauge.curve.add(event, session.member.adapter.tensors())
