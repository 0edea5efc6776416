"""The line of jobs as the app sees it: read when it changed, and asked for what the browser may ask."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from impasto import lock
from impasto.errors import UserError
from impasto.runs import group
from impasto.runs import worker as working
from impasto.runs.folder import RunFolder
from impasto.runs.queue import Job, Queue

_TICK = 50_000_000
"""Nanoseconds: disks tell times no finer than that."""


class Line:
    """The queue, opened when it is needed first; the file may come and go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: Queue | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._jobs: list[Job] = []
        self._of: dict[Path, Job] = {}
        self._trouble = ""
        self._turn = threading.Lock()

    @property
    def queue(self) -> Queue:
        """The line itself."""
        with self._turn:
            if self._queue is None or not self._path.exists():
                self._queue = Queue(self._path)
            return self._queue

    @property
    def exists(self) -> bool:
        """Whether there is a line at all."""
        return self._path.exists()

    @property
    def warning(self) -> str:
        """What is wrong with it, in words; else empty."""
        damaged = self._queue.damaged if self._queue else None
        if damaged is None:
            return self._trouble
        return f"the queue could not be read and was set aside as {damaged.name}: add its runs again"

    def jobs(self) -> list[Job]:
        """All jobs, in order. No file is made only to look."""
        self._look()
        return self._jobs

    def jobs_of(self) -> dict[Path, Job]:
        """The newest job of each folder."""
        self._look()
        return self._of

    def place(self, job: Job | None) -> int | None:
        """Where a job stands among those that wait, from 1."""
        if job is None or job.state != "queued":
            return None
        waiting = [each.id for each in self._jobs if each.state == "queued"]
        return waiting.index(job.id) + 1 if job.id in waiting else None

    def server(self, lane: str) -> lock.Holder | None:
        """Who serves a lane."""
        return lock.holder(working.lane_lock(self.queue, lane)) if self._path.exists() else None

    def lanes(self) -> list[str]:
        """Lanes that somebody serves, or that hold or want a job, besides those of the machine."""
        if not self._path.exists():
            return []
        wanted = {each.worker or each.lane for each in self.jobs() if each.state in ("queued", "running")}
        served = {
            name.removeprefix(f"{self._path.stem}-").removesuffix(".lock").replace("-", ":")
            for name in os.listdir(self._path.parent)
            if name.startswith(f"{self._path.stem}-") and name.endswith(".lock")
            if lock.holder(self._path.parent / name)
        }
        return sorted({each for each in wanted if each} | served | self.queue.held())

    def _look(self) -> None:
        try:
            status = os.stat(self._path)
        except OSError:
            self._jobs, self._of, self._stamp = [], {}, None
            return
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp == self._stamp:
            return
        try:
            self._jobs = self.queue.jobs()
        except UserError as error:  # runs are shown all the same
            self._trouble = str(error)
            return
        self._trouble = ""
        newest = sorted(self._jobs, key=lambda each: each.id)
        self._of = {Path(os.path.realpath(path)): job for job in newest for path in runs_of(job)}
        settled = time.time_ns() - status.st_mtime_ns > _TICK  # else it may change once more with the same stamp
        self._stamp = stamp if settled else None


def runs_of(job: Job) -> list[Path]:
    """The folders of all runs of a job."""
    works = [group.at(folder) for folder in job.folders]
    return [run.path for work in works for run in ([work] if isinstance(work, RunFolder) else work.runs())]
