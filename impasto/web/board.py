"""What changed in the table of runs and in the line, told to every page that listens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from impasto.errors import UserError
from impasto.web.shelf import Shelf
from impasto.web.stream import ALIVE, HELLO, PING, frame
from impasto.web.views import Summary
from impasto.web.views_queue import Queue

PAUSE = 0.5
"""Seconds between two looks."""
SLOW = 5.0
"""Seconds between two tellings of the line if only the steps of its jobs have changed: runs tell those themselves."""
KEPT = 1000
"""Changes that a page which was away can catch up with."""


class Board:
    """Compares what is with what was told last; while nobody listens it does nothing."""

    def __init__(self, shelf: Shelf, queue: Callable[[], Queue], *, pause: float = PAUSE) -> None:
        self._shelf = shelf
        self._queue = queue
        self._pause = pause
        self._epoch = str(time.time_ns() // 1_000_000)
        self._count = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._told: dict[str, Summary] = {}
        self._line: Queue | None = None
        self._lined = 0.0
        self._listeners = 0
        self._over = False
        self._grown = asyncio.Condition()

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(self._pause)
            if self._listeners:
                changes: list[bytes] = []
                with contextlib.suppress(UserError, OSError):  # a disk that is away now: once more at the next look
                    changes = await asyncio.to_thread(self._changes)
                if changes:
                    async with self._grown:
                        for change in changes:
                            self._count += 1
                            self._kept.append((self._count, change))
                        self._grown.notify_all()

    async def listen(self, last: str) -> AsyncIterator[bytes]:
        """Changes after the one of id `last`; one that is not known any more is answered with `sync`."""
        yield HELLO
        epoch, _, number = last.partition("-")
        at = int(number) if epoch == self._epoch and number.isascii() and number.isdecimal() else -1
        oldest = self._kept[0][0] if self._kept else self._count + 1
        self._listeners += 1
        try:
            if not oldest - 1 <= at <= self._count:
                at = self._count
                yield self._frame(at, json.dumps({"kind": "sync"}).encode())
            while not self._over:
                parts = [self._frame(each, data) for each, data in self._kept if each > at]
                if parts:
                    at = self._count
                    yield b"".join(parts)
                elif not await self._grows(at):
                    yield ALIVE
        finally:
            self._listeners -= 1

    async def end(self) -> None:
        """Let every listener go: the server ends."""
        async with self._grown:
            self._over = True
            self._grown.notify_all()

    def _frame(self, number: int, data: bytes) -> bytes:
        return frame(f"{self._epoch}-{number}", data)

    async def _grows(self, at: int) -> bool:
        async with self._grown:
            try:
                await asyncio.wait_for(self._grown.wait_for(lambda: self._over or self._count > at), PING)
            except TimeoutError:
                return False
        return True

    def _changes(self) -> list[bytes]:
        runs, _ = self._shelf.summaries()
        now = {each.id: each for each in runs}
        told: list[dict[str, Any]] = [
            {"kind": "run", "run": each.model_dump()} for each in runs if self._told.get(each.id) != each
        ]
        told += [{"kind": "gone", "id": id} for id in self._told.keys() - now.keys()]
        line = self._queue()
        if _is_news(line, self._line, time.monotonic() - self._lined):
            self._line, self._lined = line, time.monotonic()
            told.append({"kind": "queue", "queue": line.model_dump()})
        if not self._told and len(told) > KEPT // 2:
            told = [{"kind": "sync"}]
        self._told = now
        return [json.dumps(each, ensure_ascii=False, allow_nan=False).encode() for each in told]


def _is_news(now: Queue, before: Queue | None, since: float) -> bool:
    if before is None or now == before:
        return before is None
    return since > SLOW or _standing(now) != _standing(before)


def _standing(line: Queue) -> Queue:
    """The line without how far its jobs are."""
    return line.model_copy(update={"jobs": [each.model_copy(update={"step": 0}) for each in line.jobs]})
