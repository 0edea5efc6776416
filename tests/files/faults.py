"""A disk that fails on demand: numbers every call that `impasto.files` makes and lets one of them go wrong."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from impasto import files

KILLED = 137

Fault = Callable[["Disk", str, tuple[Any, ...]], None]


class Gone(BaseException):
    """The process has been killed; from here on it reaches no disk."""


class Disk:
    """Stands in for `files.System`. Call number `at` meets `fault`; all calls are written down by name and path."""

    def __init__(
        self, at: int = 0, fault: Fault | None = None, *, from_then_on: bool = False, forked: bool = True
    ) -> None:
        self.at = at
        self.fault = fault
        self.from_then_on = from_then_on
        self.forked = forked
        self.dead = False
        self.count = 0
        self.calls: list[tuple[str, Path]] = []
        self.paths: dict[int, Path] = {}
        self.unsynced: set[Path] = set()
        self.unsettled: list[tuple[Path, Path, bytes | None]] = []

    def open(self, path: Path, flags: int) -> int:
        fd: int = self._call("open", path, flags)
        self.paths[fd] = path
        return fd

    def read(self, fd: int, size: int) -> bytes:
        data: bytes = self._call("read", fd, size)
        return data

    def write(self, fd: int, data: memoryview) -> int:
        self.unsynced.add(self.paths.get(fd, Path()))
        size: int = self._call("write", fd, data)
        return size

    def fsync(self, fd: int) -> None:
        self._call("fsync", fd)
        path = self.paths[fd]
        self.unsynced.discard(path)
        self.unsettled = [each for each in self.unsettled if each[1].parent != path]

    def close(self, fd: int) -> None:
        if self.dead:
            os.close(fd)
        self._call("close", fd)

    def rename(self, old: Path, new: Path) -> None:
        before = new.read_bytes() if new.is_file() else None
        self._call("rename", old, new)
        self.unsettled.append((old, new, before))
        self.unsynced = {new / path.relative_to(old) if path.is_relative_to(old) else path for path in self.unsynced}

    def unlink(self, path: Path) -> None:
        self._call("unlink", path)

    def mkdir(self, path: Path) -> None:
        self._call("mkdir", path)

    def rmdir(self, path: Path) -> None:
        self._call("rmdir", path)

    def _call(self, name: str, *args: Any) -> Any:
        if self.dead:
            raise Gone
        self.count += 1
        first = args[0]
        self.calls.append((name, first if isinstance(first, Path) else self.paths.get(first, Path())))
        if self.fault and (self.count == self.at or (self.from_then_on and self.count > self.at)):
            self.fault(self, name, args)
        return getattr(_REAL, name)(*args)

    def die(self) -> None:
        """End the process; or, much faster and for the disk the same, let it do nothing any more."""
        if self.forked:
            os._exit(KILLED)
        self.dead = True
        raise Gone


_REAL = files.System


def killed(disk: Disk, name: str, args: tuple[Any, ...]) -> None:
    """The process is gone before the call."""
    disk.die()


def killed_half_way(disk: Disk, name: str, args: tuple[Any, ...]) -> None:
    """The process is gone in the middle of a write, or right after any other call."""
    if name == "write":
        fd, data = args
        os.write(fd, data[: len(data) // 2])
    else:
        getattr(_REAL, name)(*args)
    disk.die()


def power_cut(disk: Disk, name: str, args: tuple[Any, ...]) -> None:
    """What was not synced is lost: contents of files, and names that their folder has not made durable."""
    for path in disk.unsynced:
        if path.exists():
            os.truncate(path, 0)
    for old, new, before in reversed(disk.unsettled):
        if new.exists() and not old.exists():
            os.rename(new, old)
            if before is not None:
                new.write_bytes(before)
    disk.die()


def error(number: int) -> Fault:
    """The call fails with an error of the system."""

    def fail(disk: Disk, name: str, args: tuple[Any, ...]) -> None:
        if name == "close":
            os.close(args[0])
        raise OSError(number, os.strerror(number))

    return fail


def full(number: int) -> Fault:
    """From now on nothing that takes space succeeds; a write puts down what still fits, which is half."""

    def fail(disk: Disk, name: str, args: tuple[Any, ...]) -> None:
        creates = name == "open" and args[1] & os.O_CREAT
        if name == "write":
            fd, data = args
            os.write(fd, data[: len(data) // 2])
        if creates or name in ("write", "mkdir"):
            raise OSError(number, os.strerror(number))

    return fail


def in_child(work: Callable[[], object]) -> int:
    """Do it in a forked process and return its exit code (minus the signal's number if one ended it)."""
    return os.waitstatus_to_exitcode(os.waitpid(start(work), 0)[1])


def start(work: Callable[[], object]) -> int:
    """Do it in a forked process beside this one and return its process number."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def leftovers(folder: Path) -> list[Path]:
    """Temporary files and folders anywhere below."""
    return [path for path in folder.rglob("*") if files.is_temporary(path)]
