"""Event streams: what happens reaches each page as it happens, and a page that was away goes on where it was.

A file of events is looked at by one task, however many listen. A listener keeps its own place in the file; the task
only says that the file has grown, and hands round the lines that came last, already encoded. Whoever falls behind
reads on from the file, so nobody is waited for and nothing is held for the slow.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from impasto.web.lines import Mark, fresh

PAUSE = 0.25
"""Seconds between two looks at a file."""
PING = 15.0
"""Seconds of silence after which a listener hears that the server is there."""
RECENT = 512
"""Lines that are handed round."""
BATCH = 256
"""Lines that are read at once for those who are behind."""

HELLO = b"retry: 2000\n\n"
ALIVE = b": alive\n\n"
ANEW = b"event: reset\ndata: {}\n\n"
"""The file is another one than before: what was told is to be forgotten."""


def frame(id: int | str, data: bytes) -> bytes:
    """An event of the stream."""
    return b"id: %b\ndata: %b\n\n" % (str(id).encode(), data.replace(b"\r", b" "))


def after(last: str) -> int:
    """The number to begin with, by `Last-Event-ID`."""
    return int(last) + 1 if last.isascii() and last.isdecimal() and len(last) < 16 else 0


@dataclass
class Tail:
    """A file that is listened to."""

    path: Path
    mark: Mark = field(default_factory=Mark)
    recent: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=RECENT))
    generation: int = 0
    listeners: int = 0
    over: bool = False
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self, pause: float) -> None:
        """Look at the file for ever, and tell the listeners when it has grown."""
        while True:
            if _stamp(self.path) != (self.mark.file, self.mark.offset):
                mark, frames = await asyncio.to_thread(_ahead, self.path, self.mark)
                if mark != self.mark:
                    async with self.grown:
                        self._take(mark, frames)
                        self.grown.notify_all()
            self.ready.set()
            await asyncio.sleep(pause)

    def _take(self, mark: Mark, frames: deque[tuple[int, bytes]]) -> None:
        if self.mark.offset and (mark.file != self.mark.file or mark.offset < self.mark.offset):
            self.generation += 1
            self.recent.clear()
        self.mark = mark
        self.recent.extend(frames)


class Tails:
    """The files that are listened to; each is looked at while anybody listens."""

    def __init__(self, *, pause: float = PAUSE) -> None:
        self._tails: dict[Path, Tail] = {}
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._pause = pause
        self._over = False

    async def listen(self, path: Path, begin: int) -> AsyncIterator[bytes]:
        """The lines of a file from number `begin` on, as events, until the server ends."""
        if self._over:
            return
        tail = self._tails.get(path)
        if tail is None:
            tail = self._tails[path] = Tail(path)
            self._tasks[path] = asyncio.create_task(tail.watch(self._pause))
        tail.listeners += 1
        try:
            yield HELLO
            await tail.ready.wait()
            async for part in _lines(tail, begin):
                yield part
        finally:
            tail.listeners -= 1
            if tail.listeners == 0:
                del self._tails[path]
                self._tasks.pop(path).cancel()

    async def end(self) -> None:
        """Let every listener go: the server ends."""
        self._over = True
        for tail in list(self._tails.values()):
            async with tail.grown:
                tail.over = True
                tail.ready.set()
                tail.grown.notify_all()

    async def close(self) -> None:
        """End the looking."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


def _ahead(path: Path, before: Mark) -> tuple[Mark, deque[tuple[int, bytes]]]:
    """How far the file goes now, and the last of its new lines, encoded."""
    mark, last = replace(before), deque[tuple[int, bytes]](maxlen=RECENT)
    for lines in fresh(path, mark):
        skipped = max(0, len(lines) - RECENT)
        first = mark.lines - len(lines) + skipped
        last.extend((at, frame(at, line)) for at, line in enumerate(lines[skipped:], start=first))
    return mark, last


async def _lines(tail: Tail, begin: int) -> AsyncIterator[bytes]:
    at, generation, behind = begin, tail.generation, _Behind(tail.path)
    if at > tail.mark.lines:
        yield ANEW
        at = 0
    while not tail.over:
        if generation != tail.generation:
            generation, at, behind = tail.generation, 0, _Behind(tail.path)
            yield ANEW
        elif at >= tail.mark.lines:
            if not await _grows(tail, at, generation):
                yield ALIVE
        elif tail.recent and at >= tail.recent[0][0]:
            parts = [each for number, each in tail.recent if number >= at]
            at += len(parts)
            yield b"".join(parts)
        else:
            lines = await asyncio.to_thread(behind.read, at)
            if not lines:
                generation = -1  # it has become another file while we read
                continue
            parts = [frame(number, line) for number, line in enumerate(lines, start=at)]
            at += len(lines)
            yield b"".join(parts)


async def _grows(tail: Tail, at: int, generation: int) -> bool:
    """Wait until the file has grown; False if nothing came for a while."""
    async with tail.grown:
        grown = tail.grown.wait_for(lambda: tail.over or tail.mark.lines > at or tail.generation != generation)
        try:
            await asyncio.wait_for(grown, PING)
        except TimeoutError:
            return False
    return True


class _Behind:
    """Reads a file from its beginning for one listener who is behind."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._line = 0

    def read(self, begin: int) -> list[bytes]:
        """Up to BATCH whole lines from number `begin` on."""
        found: list[bytes] = []
        if self._path.is_symlink():
            return found
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n") or len(found) == BATCH:
                    break
                self._offset += len(line)
                self._line += 1
                if self._line > begin:
                    found.append(line[:-1])
        return found


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_ino, status.st_size
