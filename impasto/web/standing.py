"""Where a run stands: one word and a reason, from what it told, its lock, and its job in the line."""

from __future__ import annotations

from typing import Protocol

from impasto.runs.queue import Job
from impasto.web.digest import Digest
from impasto.web.marks import Noted
from impasto.web.views import State

STARTING = 120.0
"""Seconds that a process may take to say its first word: torch is imported from a slow disk."""
QUIET, LONG = 300.0, 50
"""A run that has told nothing for so many seconds, and for so many of its steps, is remarked on: it may wait for a
device that hangs. It is not called lost, for its process is alive, and a compiler may take long."""


class Facts(Protocol):
    """What a file of settings says of itself."""

    @property
    def usable(self) -> bool:
        """Whether it can be read."""


class Seen(Protocol):
    """What was seen of a run."""

    digest: Digest
    noted: Noted
    saved: int | None
    held: bool
    asked: bool

    @property
    def silent(self) -> bool:
        """Whether the process that holds it gives no sign of life."""

    @property
    def facts(self) -> Facts:
        """Of its settings."""


def state(seen: Seen, job: Job | None, place: int | None, *, now: float) -> tuple[State, str]:
    """The run's state, and why."""
    if seen.silent:
        return "lost", "its process is there but gives no sign of life: it is stopped, or hangs; it may go on by itself"
    if seen.held:
        return _alive(seen, now)
    if job is not None and job.state == "queued":
        return "queued", f"place {place} in the line" if place else "in the line"
    if job is not None and job.state == "running" and _starts(seen, job, now):
        return "preparing", f"lane {job.worker} starts its process" if job.worker else "its process is started"
    return _over(seen, job)


def _alive(seen: Seen, now: float) -> tuple[State, str]:
    told = seen.digest
    quiet = now - (told.last_sign or now)
    if seen.asked:
        reason = "it pauses after its next step" if seen.noted.asked == "pause" else "it stops after its next step"
    elif told.trains and not told.phase and quiet > max(QUIET, LONG * (told.seconds_per_step or 0.0)):
        reason = f"no step for {quiet / 60:.0f} minutes, though its process is alive"
    else:
        reason = ""
    if not told.trains:
        return "preparing", reason or told.phase
    if told.end == "finished" or (told.total and told.step >= told.total):
        return "finishing", reason or told.phase
    return "training", reason or told.phase


def _starts(seen: Seen, job: Job, now: float) -> bool:
    """Whether the process of a job that was taken may not have said a word yet."""
    return (seen.digest.last_sign or 0.0) < job.changed and now - job.changed < STARTING


def _over(seen: Seen, job: Job | None) -> tuple[State, str]:
    told, ended = seen.digest, job if job is not None and job.state != "done" else None
    match told.end:
        case "finished":
            return "done", told.reason
        case "failed":
            return "failed", told.reason
        case "dropped":
            return "stopped", told.reason
        case "halted":
            return ("paused", "paused; it can go on") if seen.noted.asked == "pause" else ("stopped", told.reason)
        case "":
            pass
    since = ended is not None and ended.changed >= (told.last_sign or 0.0)
    if ended is not None and since:
        match ended.state:
            case "failed" | "lost":
                return ended.state, ended.reason
            case "stopped":
                return ("paused", "paused; it can go on") if seen.noted.asked == "pause" else ("stopped", ended.reason)
            case _:
                pass
    if told.last_sign is None:
        if job is not None and job.state == "running":
            return "lost", "its process ended, or never began, without a word"
        if not seen.facts.usable:
            return "draft", "its settings cannot be read"
        return "planned", ""
    where = f"it can go on from step {seen.saved}" if seen.saved else "nothing was saved, so it begins anew"
    return "lost", f"its process is gone without a word; {where}"
