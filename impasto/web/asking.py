"""What the browser may have done: runs asked, forked, put into the line. Each checks the run's state itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from impasto import config as settings
from impasto import lock
from impasto.checks import check, run_folder
from impasto.config import RunConfig, differences
from impasto.engine import first
from impasto.errors import Problem
from impasto.experiments import branch
from impasto.runs import control, lanes
from impasto.runs import worker as working
from impasto.runs.folder import RunFolder
from impasto.runs.machine import record
from impasto.runs.queue import ENDED, Job
from impasto.settings.toml import literal
from impasto.web import marks, reach
from impasto.web.detail import can
from impasto.web.line import runs_of
from impasto.web.live import Live
from impasto.web.problems import Refused, absent
from impasto.web.shelf import Entry
from impasto.web.views import Asking, Made
from impasto.web.views_queue import Move

_KEY = re.compile(r"[a-z_][a-z0-9_]*(\.[A-Za-z0-9_-]+)*")
_MOST = 200
_WATCHED, _PROMPTS = 60, 4


def ask(live: Live, entry: Entry, kind: Asking) -> str:
    """Ask something of a run; what will happen, in words. Raises a 409 if it is in no state for that."""
    assert entry.shown is not None
    if kind not in can(entry.shown):
        what = f"{entry.shown.name} is {entry.shown.state}: it cannot be asked to {kind}"
        raise Refused(409, Problem("E-WEB-008", what, entry.id, "load the page again"))
    match kind:
        case "resume":
            enqueue(live, [entry.run.path], lane=_lane_after(live, entry.run))
            marks.change(entry.run, {"asked": ""})
            return "it goes on when it is its turn"
        case "pause" | "stop":
            marks.change(entry.run, {"asked": kind})
            return _end(live, entry, kind)
        case "end":
            return control.end(entry.run)
        case "save" | "preview":
            control.ask(entry.run, kind)
            return "after its next step"


def enqueue(live: Live, folders: Sequence[Path], *, lane: str | None = None, together: bool = False) -> list[int]:
    """Put runs at the end of the line, and see to it that somebody takes them."""
    place = None if lane is None or lanes.checked(lane) == "any" else lane
    groups = [folders] if together else [[each] for each in folders]
    jobs = [live.line.queue.add(group, lane=place).id for group in groups]
    live.workers.see_to()
    return jobs


def retry(live: Live, job: Job) -> None:
    """Put a job that has ended back into the line."""
    queue = live.line.queue
    again = {
        folder for each in queue.jobs() if each.state not in ENDED and each.id != job.id for folder in each.folders
    }
    if again & set(job.folders):
        raise Refused(409, Problem("E-QUE-001", f"a run of job {job.id} is in the line already, as another job"))
    if not queue.mark(job.id, "queued", "to be tried again", of=("failed", "stopped", "lost")):
        what = f"job {job.id} is {queue.job(job.id).state}"
        raise Refused(409, Problem("E-QUE-006", what, "", "only jobs that failed, stopped or were lost"))
    for folder in runs_of(job):
        if (folder / "config.toml").is_file():
            marks.change(RunFolder(folder), {"asked": ""})
    live.workers.see_to()


def move(live: Live, job: Job, to: Move) -> None:
    """Change a job's place among those that wait."""
    waiting = [each.id for each in live.line.queue.jobs("queued")]
    if job.id not in waiting:
        raise Refused(409, Problem("E-QUE-006", f"job {job.id} does not wait: it is {job.state}"))
    at, others = waiting.index(job.id), [each for each in waiting if each != job.id]
    match to:
        case "first":
            place = 0
        case "up":
            place = max(0, at - 1)
        case "down":
            place = at + 1
        case "last":
            place = len(others)
    live.line.queue.move(job.id, before=others[place] if place < len(others) else None)


def cancel(live: Live, job: Job) -> str:
    """Take a job out of the line, or let its training stop after its next step."""
    return working.cancel(live.line.queue, job)


def fork(live: Live, entry: Entry, at: int | None, laid_over: Mapping[str, Any], *, go: bool) -> Made:
    """Make a run that goes on from a step of this one with other settings."""
    given = [f"{_key(key)}={_value(value)}" for key, value in laid_over.items()]
    if len(given) > _MOST:
        raise Refused(422, Problem("E-WEB-006", f"more than {_MOST} settings are changed"))
    parent = settings.load(entry.run.config)
    changed = {key for key, _, _ in differences(parent, settings.load(entry.run.config, given))}
    reach.check(settings.load(entry.run.config, given), live.site, only=frozenset(changed))
    config = branch.fork(entry.run, at, given, record())
    return made(live, RunFolder(run_folder(config)), go=go)


def quickstart(live: Live) -> Made:
    """Put the built-in quickstart into the line, in a folder that is free. It draws fewer pictures than on the command
    line and more often: one wants to watch it learn."""
    root = live.site.of("runs")
    if not root:
        raise absent("quickstart")
    names = ("quickstart" if number == 1 else f"quickstart-{number}" for number in count(1))
    folder = next(path for name in names if not (path := root[0].path / name).exists())
    usual = first.settings(folder)
    shown = {"every_steps": _WATCHED, "prompts": usual.preview.prompts[:_PROMPTS]}
    return create(live, usual.model_copy(update={"preview": usual.preview.model_copy(update=shown)}))


def create(live: Live, config: RunConfig, *, lane: str | None = None, go: bool = True) -> Made:
    """Make the folder of a run whose settings were checked, and put it into the line."""
    problems = check(config)
    if problems:
        raise Refused(422, *problems)
    return made(live, RunFolder.create(run_folder(config), settings.dump(config), {}), lane=lane, go=go)


def made(live: Live, run: RunFolder, *, lane: str | None = None, go: bool) -> Made:
    """What the browser is told of a run that was made."""
    id = live.shelf.id_of(run.path, patience=0.0)
    if id is None:
        raise absent(run.name)
    return Made(id=id, job=enqueue(live, [run.path], lane=lane)[0] if go else None)


def _end(live: Live, entry: Entry, kind: Asking) -> str:
    """Ask a run to stop; one that waits leaves the line."""
    job = live.line.jobs_of().get(entry.run.path)
    if lock.holder(entry.run.lock) is not None:
        control.ask(entry.run, "stop")
        return f"it {kind}s after its next step, and is saved"
    if job is None or job.state in ENDED:
        return "it is not running any more"
    return cancel(live, live.line.queue.job(job.id))


def _lane_after(live: Live, run: RunFolder) -> str | None:
    """The lane of the job that a run had, which is over: its worker may not have noticed yet."""
    known = live.line.jobs_of().get(run.path)
    if known is None:
        return None
    job = live.line.queue.job(known.id)
    if job.state == "running":
        if any(lock.holder(RunFolder(folder).lock) for folder in runs_of(job)):
            what = "the runs that it trained with still train"
            raise Refused(409, Problem("E-WEB-008", what, run.name, "stop them too, or wait for their end"))
        live.line.queue.mark(job.id, "stopped", "it goes on as a job of its own", of=("running",))
    return job.lane


def _key(text: str) -> str:
    if not _KEY.fullmatch(text) or text == "output.folder":
        raise Refused(422, Problem("E-WEB-006", "this is no setting that can be changed here", text[:100]))
    return text


def _value(value: object) -> str:
    if isinstance(value, str) and len(value) > 1 << 15:
        raise Refused(422, Problem("E-WEB-006", "a text is too long"))
    return "" if value is None else literal(value)
