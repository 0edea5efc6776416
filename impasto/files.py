"""Files that are whole or not there: how everything durable is written, read and locked.

    temporary file -> write -> fsync -> rename -> fsync of the folder

A kill, a power cut or a full disk at any point of this line leaves the old file or the new one, never half of one.
Temporary names start with `.tmp-` and say who made them, so that leftovers of the dead can be told from work at hand.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeAlias, TypeVar

from impasto.errors import DiskError, Problem

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
P = ParamSpec("P")
T = TypeVar("T")

DAY = 86_400.0
_TEMPORARY = ".tmp-"


class System:
    """Every call that reaches a disk. Tests put a shim in its place that numbers these calls and fails one."""

    @staticmethod
    def open(path: Path, flags: int) -> int:
        return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)

    @staticmethod
    def read(fd: int, size: int) -> bytes:
        return os.read(fd, size)

    @staticmethod
    def write(fd: int, data: memoryview) -> int:
        return os.write(fd, data)

    @staticmethod
    def fsync(fd: int) -> None:
        os.fsync(fd)

    @staticmethod
    def close(fd: int) -> None:
        os.close(fd)

    @staticmethod
    def rename(old: Path, new: Path) -> None:
        os.replace(old, new)

    @staticmethod
    def unlink(path: Path) -> None:
        os.unlink(path)

    @staticmethod
    def mkdir(path: Path) -> None:
        os.mkdir(path)

    @staticmethod
    def rmdir(path: Path) -> None:
        os.rmdir(path)


def write(path: Path, *parts: bytes, durable: bool = True) -> None:
    """Put a file of these bytes at `path`, in place of what is there, in one stroke.

    `durable=False` leaves out both fsyncs: only for what can be made again and proves itself when it is read.
    """
    tmp = temporary(path)
    with _or_nothing(path, tmp, needed=sum(map(len, parts))):
        _fill(tmp, parts, durable=durable)
        move(tmp, path, durable=durable)


def create(path: Path, *parts: bytes) -> None:
    """Write a new file into a folder that nobody sees yet: `commit_folder` shows it when all is in."""
    with explained(path, needed=sum(map(len, parts))):
        _fill(path, parts, durable=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to fill in any way; when the block ends without an error it becomes `path`, in one stroke."""
    tmp = temporary(path)
    with _or_nothing(path, tmp):
        yield tmp
        _sync(tmp, os.O_RDWR)
        move(tmp, path)


def commit_folder(tmp: Path, final: Path) -> None:
    """Let a folder whose files are all written become `final`, in one stroke. `final` must be free."""
    with explained(final):
        sync_folder(tmp)
        move(tmp, final)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, each durable before the next. It may exist."""
    if path.is_dir():
        return
    with explained(path):
        make_folder(path.parent)
        with contextlib.suppress(FileExistsError):
            _again(System.mkdir, path)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    if os.name == "nt":
        return
    try:
        _sync(path, os.O_RDONLY)
    except OSError as error:  # some network disks know no fsync of folders: then the rename has to do
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def read(path: Path) -> bytes:
    """All bytes of a file. FileNotFoundError stays what it is."""
    with explained(path):
        fd = _again(System.open, path, os.O_RDONLY)
        try:
            parts = []
            size = os.fstat(fd).st_size + 1
            while part := _again(System.read, fd, size):
                parts.append(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)
        finally:
            System.close(fd)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with explained(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def aside(path: Path) -> Path:
    """Move what is at `path` out of the way, to `name.old-1` or the next free number, and say where."""
    number = 1
    while os.path.lexists(old := path.with_name(f"{path.name}.old-{number}")):
        number += 1
    move(path, old)
    return old


def move(old: Path, new: Path, *, durable: bool = True) -> None:
    """Rename, in one stroke and, unless told otherwise, for good. A file at `new` is replaced."""
    with explained(new):
        _again(System.rename, old, new)
        if durable:
            sync_folder(new.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder. It is renamed first, so that nobody meets half of it."""
    tmp = temporary(path)
    with explained(path):
        _again(System.rename, path, tmp)
        _erase(tmp)


def try_to_remove(path: Path) -> None:
    """Remove what an error has left half done, as far as the disk lets us: the next start takes the rest."""
    with contextlib.suppress(OSError):
        _erase(path)


def unlink(path: Path) -> bool:
    """Remove a file; False if it was gone already."""
    with explained(path):
        try:
            _again(System.unlink, path)
        except FileNotFoundError:
            return False
        return True


def temporary(path: Path) -> Path:
    """A name beside `path` for work at hand. It tells the process, so that a sweep can tell the dead."""
    return path.with_name(f"{_TEMPORARY}{_machine()}-{os.getpid()}-{secrets.token_hex(6)}")


def is_temporary(path: Path) -> bool:
    """Whether this is work at hand, or its leftover."""
    return path.name.startswith(_TEMPORARY)


def sweep(folder: Path, *, now: float) -> None:
    """Remove the temporaries in a folder that nobody works on: those of dead processes and those older than a day."""
    for path in _temporaries(folder):
        if _is_stale(path, now):
            with explained(path), contextlib.suppress(FileNotFoundError):  # another sweep was faster
                _erase(path)


def clear(folder: Path) -> None:
    """Remove all temporaries in a folder in which nobody but us may work."""
    for path in _temporaries(folder):
        with explained(path):
            _erase(path)


def canonical(value: object) -> bytes:
    """The one way to write a JSON value: sorted, dense, ASCII. ValueError for a number that is not finite."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


@contextmanager
def explained(path: Path, *, needed: int = 0) -> Iterator[None]:
    """Turn the faults of a disk into a DiskError that names the path and, where it is full, the bytes."""
    try:
        yield
    except OSError as error:
        problem = _problem(error, path, needed)
        if problem is None:
            raise
        raise DiskError(problem) from error


# what is below serves the above


def _problem(error: OSError, path: Path, needed: int) -> Problem | None:
    where = str(path)
    match error.errno:
        case errno.ENOSPC:
            return Problem("E-DSK-001", f"the disk is full: {_amounts(path, needed)}", where, _FREE)
        case errno.EDQUOT:
            return Problem("E-DSK-002", f"the disk quota is used up: {_amounts(path, needed)}", where, _FREE)
        case errno.EFBIG:
            return Problem("E-DSK-003", f"the file is larger than allowed: {_amounts(path, needed)}", where, _LIMIT)
        case errno.EROFS:
            return Problem("E-DSK-004", f"the disk is read-only: {_amounts(path, needed)}", where, _ELSEWHERE)
        case errno.EIO:
            return Problem("E-DSK-005", f"the disk reports a fault: {_amounts(path, needed)}", where, _FAULTY)
        case errno.ESTALE | errno.ENODEV | errno.ENXIO | errno.ENOTCONN:
            return Problem("E-DSK-006", "the disk has gone away", where, "connect it again and start the same command.")
        case errno.ENOLCK | errno.ENOTSUP | errno.ENOSYS:
            return Problem("E-DSK-008", "this disk knows no locks", where, "put it on a disk of this machine.")
        case errno.EACCES | errno.EPERM:
            return Problem("E-DSK-007", "this account may not do that here", where, _ELSEWHERE)
        case _:
            return None


_FREE = "free some space and start the same command again; nothing that was whole has been harmed."
_LIMIT = "raise the limit on file sizes (ulimit -f) or use another disk."
_ELSEWHERE = "choose a folder that this account may write to, or mend its permissions."
_FAULTY = "look at the system's log, and copy what matters to another disk."


def _amounts(path: Path, needed: int) -> str:
    place = next(folder for folder in (path, *path.parents, Path.cwd()) if os.path.exists(folder))
    try:
        free = f"{shutil.disk_usage(place).free:,} bytes are free"
    except OSError:
        free = "how much is free cannot be told"
    return f"{needed:,} bytes are needed, {free}" if needed else free


@contextmanager
def _or_nothing(path: Path, tmp: Path, *, needed: int = 0) -> Iterator[None]:
    """Whatever goes wrong, take the temporary file away again: on a full disk its space is what is missing."""
    with explained(path, needed=needed):
        try:
            yield
        except BaseException:
            try_to_remove(tmp)
            raise


def _fill(path: Path, parts: Sequence[bytes], *, durable: bool) -> None:
    fd = _again(System.open, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        for part in parts:
            write_all(fd, part)
        if durable:
            _again(System.fsync, fd)
    finally:
        System.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, however little the system takes at a time."""
    view = memoryview(data)
    while view:
        view = view[_again(System.write, fd, view) :]


def _sync(path: Path, flags: int) -> None:
    fd = _again(System.open, path, flags)
    try:
        _again(System.fsync, fd)
    finally:
        System.close(fd)


def _erase(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for child in sorted(path.iterdir()):
            _erase(child)
        _again(System.rmdir, path)
    else:
        _again(System.unlink, path)


def _again(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Make a call, again as long as a signal interrupts it."""
    while True:
        try:
            return call(*args, **kwargs)
        except InterruptedError:
            continue


def _temporaries(folder: Path) -> list[Path]:
    with explained(folder):
        return sorted(path for path in folder.iterdir() if is_temporary(path)) if folder.is_dir() else []


def _is_stale(path: Path, now: float) -> bool:
    machine, pid, _ = path.name.removeprefix(_TEMPORARY).split("-", 2)
    if machine == _machine() and pid.isdecimal():
        return int(pid) != os.getpid() and not _is_alive(int(pid))
    try:
        return now - path.stat().st_mtime > DAY
    except FileNotFoundError:
        return False


def _machine() -> str:
    """Where a process number means the same process: the host and, in containers, the space of numbers."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return hashlib.blake2b(f"{socket.gethostname()} {space}".encode(), digest_size=4).hexdigest()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
