"""A signal asks for the end: the first one politely, the second at once; a closed terminal asks for nothing.

With several ranks a signal to any of them asks rank 0, which alone decides after which step all of them end.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from impasto.errors import Stopped

POLITE = (signal.SIGINT, signal.SIGTERM)


AT_ONCE = 5.0
"""Seconds within which another signal, of another kind, is the same request: torchrun sends one of its own."""


class Others(Protocol):
    """The ranks that train together."""

    @property
    def leads(self) -> bool: ...
    @property
    def asked_to_stop(self) -> int | None: ...
    def check(self) -> None: ...
    def pass_on(self, number: int) -> None: ...


class StopRequest:
    """Remembers that a signal came. Before training there is nothing to save, so it raises on the spot; while training
    it waits to be polled between two steps, so that no step is torn."""

    def __init__(self, others: Others | None = None) -> None:
        """With `others`, `poll` looks after them too."""
        self._came: int | None = None
        self._when = 0.0
        self._training = False
        self._others = others

    def poll(self) -> None:
        """Raise Stopped if a signal came."""
        if (number := self._number) is not None:
            raise Stopped(128 + number)
        if self._others is not None:
            self._others.check()

    @property
    def came(self) -> bool:
        """Whether a signal came."""
        return self._number is not None

    @property
    def _number(self) -> int | None:
        return self._came if self._others is None or self._came is not None else self._others.asked_to_stop

    @contextmanager
    def training(self) -> Iterator[None]:
        """From here on a signal waits for `poll`."""
        self._training = True
        try:
            yield
        finally:
            self._training = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over the signals for as long as the `with` lasts. Outside the main thread Python delivers none, so a
        caller that trains in a thread of its own keeps its handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._take) for number in POLITE}
        if hasattr(signal, "SIGHUP"):
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._came is not None:
            if self._others is None or number == self._came or time.monotonic() - self._when > AT_ONCE:
                os._exit(128 + number)
            return
        self._came, self._when = number, time.monotonic()
        if self._others is not None and not self._others.leads:
            self._others.pass_on(number)
        if not self._training:
            raise Stopped(128 + number)
