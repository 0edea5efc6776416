"""A signal asks for the end: the first one politely, the second at once; a closed terminal asks for nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from impasto.errors import Stopped

POLITE = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Remembers that a signal came. Before training there is nothing to save, so it raises on the spot; while training
    it waits to be polled between two steps, so that no step is torn."""

    def __init__(self) -> None:
        self._came: int | None = None
        self._training = False

    def poll(self) -> None:
        """Raise Stopped if a signal came."""
        if self._came is not None:
            raise Stopped(128 + self._came)

    @property
    def came(self) -> bool:
        """Whether a signal came."""
        return self._came is not None

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
            os._exit(128 + number)
        self._came = number
        if not self._training:
            raise Stopped(128 + number)
