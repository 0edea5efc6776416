"""Whether the other ranks are alive: each tells so every second, from a thread of its own.

A rank that is dead or stopped tells nothing. One that works on something long (pictures are encoded, previews drawn)
goes on telling, so nobody takes it for lost, however long the others wait.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from impasto.errors import UserError
from impasto.files import JSON

EVERY = 1.0
"""Seconds between two signs of life."""

SILENCE = 20.0
"""Seconds without a sign of life after which a rank is lost."""

START = 180.0
"""Seconds for a rank to come at all: it reads its libraries first."""

MERCY = 15.0
"""Seconds that a rank has to end by itself once another is gone; then it is ended. Rank 0, which may have something to
save, has all the time it needs."""

LOST = 9
"""The exit code of a process that ends because another one is gone: that of errors.DeviceError."""


class Watch:
    """Tells that this rank lives, and looks after the others."""

    def __init__(self, store: Any, rank: int, size: int, parent: int | None) -> None:
        """`store` is a connection that nobody else uses."""
        self._store, self._rank, self._size, self._parent = store, rank, size, parent
        self._over = threading.Event()
        self._looked = time.monotonic()
        self._threads = [threading.Thread(target=run, name="watch", daemon=True) for run in (self._look, self._guard)]
        self.trouble: str | None = None
        """What is wrong with another rank, in words."""

        self.farewell: dict[str, JSON] | None = None
        """What a rank said that ended, if one did; `rank` is its number."""

        self.blind = False
        """Whether this rank is where it cannot look after the others, and must be ended if one of them is gone."""

        self.asked: int | None = None
        """A signal that came to any of the ranks, or that stands for the end of who started them."""

    def start(self) -> None:
        """From here on."""
        self._store.set(f"farewell/{self._rank}", "")
        self._store.set(f"beat/{self._rank}", "0")
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No more."""
        self._over.set()
        self._threads[1].join(timeout=5)

    def _look(self) -> None:
        """Tell and look. A store whose keeper is frozen never answers, so nothing else is done here."""
        others = [rank for rank in range(self._size) if rank != self._rank] if self._rank == 0 else [0]
        heard, count = {rank: ("", time.monotonic()) for rank in others}, 0
        while not self._over.wait(EVERY):
            count += 1
            try:
                self._store.set(f"beat/{self._rank}", str(count))
                for rank in others:
                    self._look_after(rank, heard)
                if self._rank == 0 and self._store.check(["signal"]):
                    self.asked = int(self._store.get("signal"))
            except RuntimeError:  # all that a store raises
                self._say("rank 0, or whoever keeps the meeting point of the ranks, is gone")
            self._looked = time.monotonic()

    def _guard(self) -> None:
        late = 0
        while not self._over.wait(EVERY):
            late = late + 1 if time.monotonic() - self._looked > SILENCE else 0
            if late > 2:  # once is nothing: this process may itself have been stopped for a while
                self._say(f"rank 0, or whoever keeps the meeting point, has not answered for {SILENCE:.0f} seconds")
            if self._parent is not None and os.getppid() != self._parent:
                self.asked = signal.SIGTERM
            if (self.trouble or self.farewell) and (self._rank or self.blind) and not self._over.wait(MERCY):
                if self._rank == 0:
                    print(f"impasto: {self.trouble or 'another rank has ended'}", file=sys.stderr, flush=True)
                os._exit(LOST)

    def _look_after(self, rank: int, heard: dict[int, tuple[str, float]]) -> None:
        keys, now = [f"beat/{rank}", f"farewell/{rank}"], time.monotonic()
        beat, farewell = (
            (each.decode() for each in self._store.multi_get(keys)) if self._store.check(keys) else ("", "")
        )
        if farewell and self.farewell is None:
            self.farewell = {**json.loads(farewell), "rank": rank}
        if beat != heard[rank][0]:
            heard[rank] = (beat, now)
        elif not farewell and now - heard[rank][1] > (patience := SILENCE if beat else START):
            self._say(f"rank {rank} has given no sign of life for {patience:.0f} seconds")

    def _say(self, trouble: str) -> None:
        if self.trouble is None and not self._over.is_set():
            self.trouble = trouble


def packed(error: UserError) -> dict[str, JSON]:
    """An error, to be told to other ranks."""
    problems: list[JSON] = [[each.code, each.what, each.where, each.fix] for each in error.problems]
    return {"error": type(error).__name__, "problems": problems, "code": error.exit_code}


def unpacked(told: Any, remark: str, make: Callable[..., Any]) -> UserError:
    """The error that another rank has told of, with a remark on where it was."""
    kinds = {kind.__name__: kind for kind in UserError.__subclasses__()}
    problems = [make(code, f"{remark}: {what}", where, fix) for code, what, where, fix in told["problems"]]
    return kinds.get(told["error"], UserError)(*problems)
