"""Our own training in turns with others: a whole run, as `impasto train` would do it, that waits between two steps."""

from __future__ import annotations

import tempfile
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


def settings(folder: Path, **given: Any) -> RunConfig:
    """A run that saves only at its end and proves nothing, on the pictures in `folder`."""
    output = {"folder": str(folder.parent / "runs")}
    usual = {"data": {"sets": [{"path": str(folder)}]}, "save": {"proof": "off"}, "output": output}
    merged: dict[str, Any] = {
        name: {**usual.get(name, {}), **given.get(name, {})} if name in usual or isinstance(given[name], dict)
        else given[name]
        for name in (*usual, *(each for each in given if each not in usual))
    }  # fmt: skip
    return RunConfig.model_validate(merged)


def pictures(folder: Path, count: int, side: int, *, photo: int | None = None) -> Path:
    """Pictures of soft noise with captions; with `photo`, so many pixels a side, as large as photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(count):
        dots = np.random.default_rng(at).integers(0, 256, (16, 16, 3), np.uint8)
        size = photo or side
        Image.fromarray(dots).resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{at:05}.png")
        (folder / f"{at:05}.txt").write_text(f"a soft picture, number {at}", "utf-8")
    return folder


def workplace(given: Path | None) -> tempfile.TemporaryDirectory[str] | None:
    """A folder to work in that goes when it is no longer needed, unless one is given."""
    return None if given else tempfile.TemporaryDirectory(prefix="impasto-bench-")
