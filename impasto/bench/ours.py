"""Our own training in turns with others: a whole run, as `impasto train` would do it, that waits between two steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from impasto.bench.clock import Clock, Span
from impasto.config import RunConfig
from impasto.engine import opening
from impasto.engine.run import Fleet
from impasto.engine.session import Session, Show
from impasto.engine.signals import StopRequest
from impasto.engine.trainer import Trainer
from impasto.store import Store

Between = Callable[[Trainer], None]
"""What is done after each of our steps, while the run waits."""


def trained(
    configs: Sequence[RunConfig], store: Store, clock: Clock, between: Between | None = None, show: Show | None = None
) -> list[Span]:
    """Train runs together to their end, and say what each step took: with reading its pictures, telling of it, and
    whatever else a run does between two steps."""
    took: list[Span] = []
    left: Span | None = None

    def umpire(sessions: list[Session], trainer: Trainer, poll: Callable[[], None]) -> Iterable[Session]:
        nonlocal left
        if left is not None:
            took.append(clock.since(left))
        if between is not None:
            between(trainer)
        poll()
        left = clock.now()
        return ()

    stop = StopRequest()
    with stop.listening(), ExitStack() as held:
        sessions = [held.enter_context(opening.opened(each, frozenset(), restart=True, show=show)) for each in configs]
        for failure in Fleet(sessions, store, stop, umpire=umpire).train():
            raise failure
    return took


def settings(folder: Path, name: str, **given: dict[str, Any]) -> RunConfig:
    """A run that saves only at its end and proves nothing, on the pictures in `folder`."""
    usual: dict[str, dict[str, Any]] = {
        "data": {"sets": [{"path": str(folder)}]},
        "save": {"proof": "off"},
        "output": {"folder": str(folder.parent / "runs")},
    }
    sections = {each: {**usual.get(each, {}), **given.get(each, {})} for each in (*usual, *given)}
    return RunConfig.model_validate({"name": name, **sections})


def device(name: str, threads: int) -> dict[str, Any]:
    """The section [device]; 0 threads: as many as a run would take."""
    return {"name": name, **({"threads": threads} if threads else {})}


def pictures(folder: Path, count: int, side: int, *, jpeg: bool = False) -> Path:
    """Pictures of soft noise, so many pixels a side, with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(count):
        dots = np.random.default_rng(at).integers(0, 256, (16, 16, 3), np.uint8)
        name = f"{at:05}.{'jpg' if jpeg else 'png'}"
        Image.fromarray(dots).resize((side, side), Image.Resampling.BICUBIC).save(folder / name)
        (folder / f"{at:05}.txt").write_text(f"a soft picture, number {at}", "utf-8")
    return folder
