"""One holder at a time, by the operating system's word: a lock is free the moment its holder is gone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from impasto import files
from impasto.errors import LockedError, Problem

_PATIENCE = 0.5
"""Seconds to try for: somebody may be looking at the lock (see `holder`) for an instant."""

BEAT = 2.0
"""Seconds between two signs of life of a holder that gives any: it touches the file."""


class Holder(NamedTuple):
    """Who holds a lock. The system knows that it is held; the names are what the holder wrote down."""

    pid: int
    host: str
    since: str
    beat: float = 0.0
    """Seconds between its signs of life; 0 if it gives none."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}" if self.pid else "another process"


class Lock:
    """A lock on a file, for a `with` block or until `release()`.

    With `beat` it touches the file every so many seconds while it is held: a process that is stopped, or hangs, still
    holds its lock, and whoever looks on can tell it from one that works.
    """

    def __init__(self, path: Path, *, beat: float = 0.0) -> None:
        self.path = path
        self._beat = beat
        self._fd: int | None = None
        self._heart: tuple[threading.Thread, threading.Event] | None = None

    def take(self) -> None:
        """Take it, or raise LockedError (exit code 8) naming who has it."""
        with files.explained(self.path):
            fd = files.System.open(self.path, os.O_RDWR | os.O_CREAT)
            try:
                _take(fd, self.path)
                _sign(fd, self._beat)
            except BaseException:
                os.close(fd)
                raise
        self._fd = fd
        _forget_in_children(self)
        if self._beat:
            over = threading.Event()
            thread = threading.Thread(target=self._live, args=(over,), name="heartbeat", daemon=True)
            thread.start()
            self._heart = thread, over

    def release(self) -> None:
        """Give it back. The file stays: to remove it would let two hold two files of one name."""
        if self._heart is not None:
            (thread, over), self._heart = self._heart, None
            over.set()
            thread.join()
        self.forget()

    def forget(self) -> None:
        """Let go of the file and nothing else: all that a forked child has of it, for threads stay with the parent."""
        self._heart = None
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def _live(self, over: threading.Event) -> None:
        while not over.wait(self._beat):
            with contextlib.suppress(OSError):  # a disk that is away now: silence is what it means
                os.utime(self.path)

    def __enter__(self) -> Lock:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def holder(path: Path) -> Holder | None:
    """Who holds the lock at `path`, or None if it is free."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        return None if _lock(fd, shared=True) else _signed(path)
    except OSError:  # a disk without locks: nobody can hold one
        return None
    finally:
        os.close(fd)


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait until nobody else has the lock at `path`, hold it for the block, and leave no file behind.

    Saves work that would be done twice; on a disk without locks it is done twice.
    """
    fd = _wait(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(fd)


def _wait(path: Path) -> int:
    while True:
        with files.explained(path):
            fd = files.System.open(path, os.O_RDWR | os.O_CREAT)
        try:
            with contextlib.suppress(OSError):
                _lock(fd, wait=True)
            if _is_still(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _take(fd: int, path: Path) -> None:
    patience = time.monotonic() + _PATIENCE
    while not _lock(fd):
        if time.monotonic() > patience:
            what = f"is held by {_signed(path)}"
            fix = "wait for it, stop it, or use another folder; a lock never outlives its process."
            raise LockedError(Problem("E-RUN-001", what, str(path.parent), fix))
        time.sleep(0.02)


def _sign(fd: int, beat: float) -> None:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    os.ftruncate(fd, 0)
    files.write_all(fd, files.canonical(Holder(os.getpid(), socket.gethostname(), since, beat)._asdict()))


def _signed(path: Path) -> Holder:
    try:
        text = json.loads(path.read_bytes())
        return Holder(int(text["pid"]), str(text["host"]), str(text["since"]), float(text.get("beat", 0.0)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Holder(0, "", "")


def _is_still(fd: int, path: Path) -> bool:
    """Whether `path` is still the file that we have locked: the one before us may have removed it."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _forget_in_children(lock: Lock) -> None:
    """A forked child has our end of the lock as well, and would hold it for a dead parent."""
    if sys.platform == "win32":
        return
    reference = weakref.ref(lock)

    def forget() -> None:
        if held := reference():
            held.forget()

    os.register_at_fork(after_in_child=forget)


if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int, *, shared: bool = False, wait: bool = False) -> bool:
        """Lock the file's last possible byte, so that its text can be read all the same."""
        while True:
            try:
                os.lseek(fd, 0x7FFF_FFFE, os.SEEK_SET)
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
                os.lseek(fd, 0, os.SEEK_SET)
                return True
            except OSError:
                os.lseek(fd, 0, os.SEEK_SET)
                if not wait:
                    return False
                time.sleep(0.05)

else:
    import fcntl

    def _lock(fd: int, *, shared: bool = False, wait: bool = False) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True
