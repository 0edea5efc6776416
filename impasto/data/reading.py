"""The bytes of a user's file, or the problem with it. Files are only ever opened for reading."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path
from typing import Final

from impasto.data.findings import shown
from impasto.errors import Problem

TRIES: Final = 3
"""Attempts at a disk that reports a fault, before the file is left out."""

# Without O_NONBLOCK a pipe that takes a file's place between the two looks would hold us for ever.
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def read(path: Path, *, limit: int) -> bytes | Problem:
    """At most `limit` + 1 bytes of a file, so that the caller can tell a longer one."""
    for left in reversed(range(TRIES)):
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                return Problem(
                    "E-IMG-031", "is not a file (a folder, pipe, socket or device)", shown(path), "remove it"
                )
            return _read(path, limit + 1)
        except ValueError:
            return Problem("E-IMG-033", "has a name that no file can have", shown(path), "correct it")
        except OSError as error:
            if error.errno not in _PASSING or not left:
                return _problem(error, path)
        time.sleep(0.05)
    raise AssertionError("the last try returns")


_PASSING: Final = frozenset((errno.EIO, errno.EINTR, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT))


def _read(path: Path, limit: int) -> bytes:
    fd = os.open(path, _FLAGS)
    with open(fd, "rb", buffering=0) as file:
        size = min(os.fstat(fd).st_size, limit)
        parts, wanted = [], limit
        while wanted and (part := file.read(min(wanted, max(size, 65_536)))):
            parts.append(part)
            wanted -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _problem(error: OSError, path: Path) -> Problem:
    where = shown(path)
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return Problem("E-IMG-030", "may not be read by this account", where, _rights(path))
        case errno.ENOENT | errno.ENOTDIR:
            return Problem("E-IMG-033", "is gone, or is a link to nothing", where, "bring it back, or remove the link")
        case errno.ELOOP:
            return Problem("E-IMG-033", "is a link that leads back to itself", where, "remove it")
        case errno.ENAMETOOLONG:
            return Problem("E-IMG-034", "has too long a path", where, "move the pictures nearer to the top")
        case _:
            return Problem("E-IMG-032", f"cannot be read ({error.strerror})", where, "check the disk or the network")


def _rights(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "let this account enter its folder"
    return f"its rights are {stat.filemode(found.st_mode)}, its owner is user {found.st_uid}"
