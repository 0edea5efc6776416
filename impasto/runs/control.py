"""Asking something of a run: an empty file in its control folder, which it takes away when it has seen it."""

from __future__ import annotations

import os
import signal
import socket
from typing import get_args

from impasto import files, lock
from impasto.errors import LockedError, Problem
from impasto.runs.folder import Request as Request
from impasto.runs.folder import RunFolder


def ask(run: RunFolder, request: Request) -> None:
    """Ask a run to stop, to save or to draw its previews at its next step."""
    path = RunFolder.open(run.path).control / request
    files.make_folder(path.parent)
    with files.explained(path):
        files.System.close(files.System.open(path, os.O_WRONLY | os.O_CREAT))


def end(run: RunFolder) -> str:
    """Kill the process of a run, which cannot be asked any more; what was done, in words. What is saved stays."""
    held = lock.holder(run.lock)
    if held is None or not held.pid:
        return "its process is gone"
    if held.host != socket.gethostname():
        raise LockedError(Problem("E-RUN-001", f"is held by {held}", str(run.path), "end that process there"))
    os.kill(held.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    return f"process {held.pid} is ended; what was saved stays"


def requests(run: RunFolder) -> set[Request]:
    """What has been asked since the last call."""
    try:
        with files.explained(run.control):
            names = set(os.listdir(run.control))
    except FileNotFoundError:
        return set()
    known: tuple[Request, ...] = get_args(Request)
    return {request for request in known if request in names and files.unlink(run.control / request)}
