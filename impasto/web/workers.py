"""Workers that this server starts where there is work and nobody serves. They are processes of their own, and outlive
it: a server that ends, however it ends, ends no training."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from impasto import files
from impasto.runs.queue import Job
from impasto.web.line import Line

PATIENCE = 10.0
"""Seconds that a worker may take to hold its lane before another one is started."""

Spawn = Callable[[str], "subprocess.Popen[bytes]"]


class Workers:
    """Sees to it that each lane of this machine has a worker while there is work for it."""

    def __init__(self, line: Line, lanes: Sequence[str], spawn: Spawn) -> None:
        self._line = line
        self._lanes = lanes
        self._spawn = spawn
        self._started: dict[str, float] = {}
        self._children: list[subprocess.Popen[bytes]] = []
        self._turn = threading.Lock()

    def see_to(self) -> None:
        """Start workers where they are missing."""
        if not self._lanes:
            return
        with self._turn:
            self._children = [each for each in self._children if each.poll() is None]
            jobs = self._line.jobs()
            held = self._line.queue.held() if any(each.state == "queued" for each in jobs) else set()
            for lane in self._lanes:
                soon = time.monotonic() - self._started.get(lane, -PATIENCE) < PATIENCE
                if not soon and _has_work(lane, jobs, held=lane in held) and self._line.server(lane) is None:
                    self._started[lane] = time.monotonic()
                    self._children.append(self._spawn(lane))

    def let_go(self) -> None:
        """They are nobody's children from here on, and nothing is wrong with that."""
        for child in self._children:
            if child.poll() is None:
                child.returncode = 0


def _has_work(lane: str, jobs: Sequence[Job], *, held: bool) -> bool:
    """Whether a job waits that may run there, or one runs whose worker may have died."""
    waits = any(each.state == "queued" and each.lane in (None, lane) for each in jobs)
    return (waits and not held) or any(each.state == "running" and each.worker == lane for each in jobs)


def impasto_worker(queue: Path, log: Path) -> Spawn:
    """Start `impasto worker` for a lane, in a session of its own; it ends when the line is empty."""

    def spawn(lane: str) -> subprocess.Popen[bytes]:
        files.make_folder(log)
        command = [sys.executable, "-m", "impasto", "worker", "--lane", lane, "--until-empty", "--queue", str(queue)]
        with (log / f"worker-{lane.replace(':', '-')}.log").open("ab") as out:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    return spawn
