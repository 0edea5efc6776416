"""One lane of training: take the next job, let a process of its own train it, watch it, and see what became of it.

A worker may die at any moment. The training goes on without it, in its own session; the next worker of the lane finds
it by the lock of its folder and watches on. A job whose training died too goes back into the line if that was the
worker's end, or if it had got further than the time before; else it is lost, and says so.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from impasto import lock
from impasto.errors import ConfigError, LockedError, Problem
from impasto.lock import Lock
from impasto.runs import control, group
from impasto.runs.folder import RunFolder
from impasto.runs.queue import Job, JobState, Queue

PAUSE = 0.5
"""Seconds between two looks."""

OUTPUT = "worker.log"
"""In a run's folder: what its process printed."""

HELD = 8
"""The exit code of a training whose folder another process holds (errors.LockedError)."""

Spawn = Callable[[Job], "subprocess.Popen[bytes]"]
Tell = Callable[[str], None]


class Worker:
    """Serves one lane. Only one process can at a time."""

    def __init__(self, queue: Queue, lane: str, spawn: Spawn, tell: Tell, *, pause: float = PAUSE) -> None:
        self._queue = queue
        self._lane = lane
        self._spawn = spawn
        self._tell = tell
        self._pause = pause

    def serve(self, stop: Callable[[], bool], *, until_empty: bool = False) -> None:
        """Train jobs until `stop` says so, or with `until_empty` until there are none for this lane.

        Raises LockedError (exit code 8) if the lane has a worker. On `stop` a training goes on by itself.
        """
        with self._the_lane():
            self._take_over(stop)
            while not stop():
                job = self._queue.claim(self._lane, _saved)
                if job is not None:
                    self._train(job, stop)
                elif until_empty:
                    return
                else:
                    time.sleep(self._pause)

    def _the_lane(self) -> Lock:
        path = lane_lock(self._queue, self._lane)
        held = lock.holder(path)
        if held is not None:
            fix = "that one takes the jobs; stop it first, or serve another --lane"
            raise LockedError(Problem("E-QUE-005", f"lane {self._lane} is served by {held}", str(path), fix))
        return Lock(path)

    def _take_over(self, stop: Callable[[], bool]) -> None:
        """See to the jobs that a worker of this lane left when it died."""
        for job in self._queue.jobs("running"):
            if job.worker == self._lane:
                if _trains(job):
                    self._tell(f"job {job.id} trains on: watching it again")
                    self._watch(job, lambda job=job: _trains(job), stop)  # type: ignore[misc]
                    if stop():
                        return
                self._settle(job, None, "its worker had died")

    def _train(self, job: Job, stop: Callable[[], bool]) -> None:
        names = ", ".join(group.at(folder).name for folder in job.folders)
        self._tell(f"job {job.id}: {names}")
        try:
            child = self._spawn(job)
        except OSError as error:
            self._queue.mark(job.id, "failed", f"the training could not be started: {error}")
            return
        self._watch(job, lambda: child.poll() is None, stop)
        if child.poll() is None:
            self._tell(f"job {job.id} goes on by itself; the next worker of lane {self._lane} takes it up")
            child.returncode = 0  # it is nobody's child from here on, and nothing is wrong with that
            return
        if child.returncode == HELD and _trains(job):  # one that a dead worker had started was quicker
            self._watch(job, lambda: _trains(job), stop)
            if stop():
                return
            self._settle(job, None, "its worker had died")
            return
        self._settle(job, child.returncode, "")

    def _watch(self, job: Job, alive: Callable[[], bool], stop: Callable[[], bool]) -> None:
        while alive() and not stop():
            time.sleep(self._pause)

    def _settle(self, job: Job, code: int | None, why: str) -> None:
        """Say what became of a job whose process has ended."""
        state, reason = verdict(job, code, why)
        self._queue.mark(job.id, state, reason, of=("running",))
        self._tell(f"job {job.id}: {state}, {reason}")


def verdict(job: Job, code: int | None, why: str) -> tuple[JobState, str]:
    """What a job is after its process ended with `code` (None: not known), by what its folders tell."""
    states = [group.at(folder).state() for folder in job.folders]
    if all(state.stage == "finished" for state in states):
        return "done", "all steps are trained"
    failed = next((state for state in states if state.stage == "failed"), None)
    if failed is not None:
        return "failed", failed.error or "it failed"
    if code == 0 or code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        return "stopped", "it was asked to stop"
    if code is None and why:
        return "queued", f"{why}; it goes on from its last checkpoint"
    if code is not None and 0 < code < 128:
        return "failed", f"it ended with exit code {code}; its output is in {output(job).name} of {job.folders[0].name}"
    killed = f"its process was killed by signal {-code}" if code is not None and code < 0 else "its process is gone"
    if _saved(job) > job.reached:
        return "queued", f"{killed}; it had got further, so it goes on from its last checkpoint"
    return "lost", f"{killed} before anything new was saved; `impasto queue retry {job.id}` tries again"


def cancel(queue: Queue, job: Job, *, now: bool = False) -> str:
    """Take a job out of the line, or ask its training to stop after its next step; `now`: end it at once.

    Returns what was done, in words.
    """
    if queue.mark(job.id, "stopped", "taken out of the line", of=("queued",)):
        return "taken out of the line"
    if queue.job(job.id).state != "running":
        raise ConfigError(
            Problem("E-QUE-006", f"job {job.id} has ended: {job.reason}", "command line", "nothing to do")
        )
    for folder in job.folders:
        work = group.at(folder)
        held = lock.holder(work.lock)
        if held is not None and held.pid and (now or isinstance(work, group.GroupFolder)):
            os.kill(held.pid, signal.SIGTERM)
        elif isinstance(work, RunFolder):
            control.ask(work, "stop")
    return "ends at once, saved" if now else "stops after its next step, saved"


def output(job: Job) -> Path:
    """Where a job's process writes what it prints."""
    return job.folders[0] / OUTPUT


def start(command: Sequence[str], environment: dict[str, str]) -> Spawn:
    """How jobs are trained: `command` with the run folders behind it, in a session of its own."""

    def spawn(job: Job) -> subprocess.Popen[bytes]:
        with output(job).open("ab") as log:
            return subprocess.Popen(
                [*command, *(str(folder) for folder in job.folders)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip

    return spawn


def lane_lock(queue: Queue, lane: str) -> Path:
    """What the worker of a lane holds."""
    return queue.path.with_name(f"{queue.path.stem}-{lane.replace(':', '-')}.lock")


def _trains(job: Job) -> bool:
    """Whether a process holds any of its folders."""
    return any(lock.holder(group.at(folder).lock) for folder in job.folders)


def _saved(job: Job) -> int:
    """The last step that was saved, of all its runs together."""
    return sum(group.at(folder).state().saved or 0 for folder in job.folders)
