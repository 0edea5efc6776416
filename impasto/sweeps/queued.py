"""A sweep on the queue: runs that share a base are one job, and train on whichever lane is free first.

Whoever waits here may die: the jobs go on by themselves, and the next to wait finds them in the line.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from impasto.errors import ConfigError, DeviceError, Problem
from impasto.runs.group import GroupFolder
from impasto.runs.queue import ENDED, Job, Queue
from impasto.sweeps.folder import SweepFolder

PAUSE = 0.5
"""Seconds between two looks."""

Tell = Callable[[str], None]


def train(folder: SweepFolder, line: Queue, tell: Tell, *, lane: str | None = None, pause: float = PAUSE) -> None:
    """Put all of a sweep that is left to do into the line, and wait until it is done.

    Raises what ended a group, or DeviceError for a job that did not come to its end.
    """
    with folder.hold():
        groups = [group for group in folder.make_groups(folder.runs()) if not group.is_done]
        jobs = {group: _job(line, group, lane, tell) for group in groups}
        _wait(line, jobs, tell, pause)
        for group, job in jobs.items():
            if not group.is_done:
                raise _reason(line, group, job)


def _job(line: Queue, group: GroupFolder, lane: str | None, tell: Tell) -> int:
    """The number of a group's job: one that is in the line already, or a new one."""
    there = next((job for job in line.jobs() if job.folders == (group.path,) and job.state not in ENDED), None)
    if there is None:
        group.begin()
    job = there or line.add([group.path], lane=lane)
    tell(f"{group.name}: job {job.id}" + (f", {job.reason}" if there else ""))
    return job.id


def _wait(line: Queue, jobs: dict[GroupFolder, int], tell: Tell, pause: float) -> None:
    told: dict[GroupFolder, str] = {}
    waiting = dict(jobs)
    while waiting:
        for group, number in list(waiting.items()):
            job = _found(line, number)
            news = "its job is no longer in the queue" if job is None else f"{job.state}, {job.reason}"
            if told.get(group, "queued, added") != news:
                tell(f"{group.name}: {news}")
                told[group] = news
            if job is None or job.state in ENDED:
                del waiting[group]
        if waiting:
            time.sleep(pause)


def _found(line: Queue, number: int) -> Job | None:
    try:
        return line.job(number)
    except ConfigError:  # somebody had it forgotten
        return None


def _reason(line: Queue, group: GroupFolder, number: int) -> Exception:
    if (ended := group.ended()) is not None and (error := ended.error()) is not None:
        return error
    job = _found(line, number)
    what = f"{group.name} did not come to its end" + (f": job {number} is {job.state}, {job.reason}" if job else "")
    fix = f"`impasto sweep {group.path.parent.parent} --on queue` goes on with it"
    return DeviceError(Problem("E-SWP-008", what, str(group.path), fix))
