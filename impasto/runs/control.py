"""Asking something of a run: an empty file in its control folder, which it takes away when it has seen it."""

from __future__ import annotations

import os
from typing import get_args

from impasto import files
from impasto.runs.folder import Request as Request
from impasto.runs.folder import RunFolder


def ask(run: RunFolder, request: Request) -> None:
    """Ask a run to stop, to save or to draw its previews at its next step."""
    path = RunFolder.open(run.path).control / request
    files.make_folder(path.parent)
    with files.explained(path):
        files.System.close(files.System.open(path, os.O_WRONLY | os.O_CREAT))


def requests(run: RunFolder) -> set[Request]:
    """What has been asked since the last call."""
    try:
        with files.explained(run.control):
            names = set(os.listdir(run.control))
    except FileNotFoundError:
        return set()
    known: tuple[Request, ...] = get_args(Request)
    return {request for request in known if request in names and files.unlink(run.control / request)}
