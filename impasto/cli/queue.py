"""The line of trainings, and the workers that take from it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from cyclopts import App

from impasto import config as settings
from impasto.checks import run_folder
from impasto.cli.text import columns
from impasto.cli.training import asked_for, loaded
from impasto.errors import ConfigError, Problem
from impasto.runs import group, lanes
from impasto.runs import worker as working
from impasto.runs.folder import RunFolder
from impasto.runs.queue import ENDED, Job, Queue, default_path

app = App(name="queue", help="The line of trainings: add, list, cancel, move, retry, hold, release, forget.")


@app.command
def add(
    *what: str, lane: str = "any", together: bool = False, queue: Path | None = None, runs: Path | None = None
) -> None:
    """Put trainings at the end of the line. All that can be checked without the pictures is checked now.

    Parameters
    ----------
    what
        As for `impasto train`: files of settings, settings laid over them, a folder of pictures; or run folders, which
        go on from where they are.
    lane
        Where it must run: cpu, cuda:0, cuda:1 ...; any takes the first that is free.
    together
        Train all of them as one fleet, on one base.
    queue
        The file of the line, in place of the usual one.
    runs
        The folder for run folders, in place of output.folder.
    """
    line = opened(queue)
    place = None if lanes.checked(lane) == "any" else lane
    folders = [Path(each).absolute() for each in what if (Path(each) / "config.toml").is_file()]
    others = [each for each in what if Path(each).absolute() not in folders]
    if others or not folders:
        folders += [_made(config) for config in loaded(asked_for(others, runs))]
    for those in [folders] if together else [[each] for each in folders]:
        job = line.add(those, lane=place)
        print(f"job {job.id}: {_names(job)}")
    if not served(line):
        print("no worker takes jobs now: start one with `impasto worker`", file=sys.stderr)


@app.command(name="list")
def list_(*, all: bool = False, queue: Path | None = None) -> None:
    """Show the line: what trains, what waits, in order.

    Parameters
    ----------
    all
        Those that have ended too.
    queue
        The file of the line, in place of the usual one.
    """
    line = opened(queue)
    jobs = [job for job in line.jobs() if all or job.state not in ENDED]
    rows = [
        [str(job.id), job.state, job.worker or job.lane or "any", _progress(job), _names(job), job.reason]
        for job in jobs
    ]
    print(columns(["job", "state", "lane", "step", "runs", "why"], rows) if rows else "the line is empty")
    for lane in sorted(line.held()):
        print(f"lane {lane} is held: it takes no further job")


@app.command
def cancel(job: int, /, *, now: bool = False, queue: Path | None = None) -> None:
    """Take a job out of the line; one that trains stops after its next step and is saved.

    Parameters
    ----------
    job
        Its number.
    now
        Do not wait for the next step to end a training in the middle of a preview or of encoding.
    queue
        The file of the line, in place of the usual one.
    """
    line = opened(queue)
    print(f"job {job}: {working.cancel(line, line.job(job), now=now)}")


@app.command
def move(job: int, /, *, before: int | None = None, last: bool = False, queue: Path | None = None) -> None:
    """Change a job's place in the line. Without a word it becomes the next one.

    Parameters
    ----------
    job
        Its number.
    before
        The job it is to go before.
    last
        Put it at the end.
    queue
        The file of the line, in place of the usual one.
    """
    line = opened(queue)
    first = next((each.id for each in line.jobs("queued") if each.id != job), None)
    line.move(job, before=None if last else before if before is not None else first)
    list_(queue=queue)


@app.command
def retry(job: int, /, *, queue: Path | None = None) -> None:
    """Put a job that has ended back into the line: it goes on from its last checkpoint.

    Parameters
    ----------
    job
        Its number.
    queue
        The file of the line, in place of the usual one.
    """
    line = opened(queue)
    if not line.mark(job, "queued", "to be tried again", of=("failed", "stopped", "lost")):
        what = f"job {job} is {line.job(job).state}"
        raise ConfigError(Problem("E-QUE-006", what, "command line", "only jobs that failed, stopped or were lost"))
    print(f"job {job} is in the line again")


@app.command
def hold(lane: str, /, *, queue: Path | None = None) -> None:
    """Let a lane take no further job; what trains goes on.

    Parameters
    ----------
    lane
        cpu, cuda:0 ...
    queue
        The file of the line, in place of the usual one.
    """
    opened(queue).hold(lanes.checked(lane), on=True)


@app.command
def release(lane: str, /, *, queue: Path | None = None) -> None:
    """Let a lane that was held take jobs again.

    Parameters
    ----------
    lane
        cpu, cuda:0 ...
    queue
        The file of the line, in place of the usual one.
    """
    opened(queue).hold(lanes.checked(lane), on=False)


@app.command
def forget(*, queue: Path | None = None) -> None:
    """Drop the jobs that have ended from the list; their runs stay.

    Parameters
    ----------
    queue
        The file of the line, in place of the usual one.
    """
    print(f"forgot {opened(queue).forget()} jobs")


def worker(*, lane: str = "auto", until_empty: bool = False, queue: Path | None = None) -> None:
    """Take jobs from the line and train them, one after the other; start one for each GPU.

    Ctrl-C ends the worker; what trains goes on by itself, and the next worker of the lane watches it again.

    Parameters
    ----------
    lane
        What it trains on: cpu, cuda:0, cuda:1 ...; auto takes the first GPU if there is one.
    until_empty
        End when the line is empty.
    queue
        The file of the line, in place of the usual one.
    """
    line, name = opened(queue), lanes.devices(os.environ)[0] if lane == "auto" else lanes.checked(lane)
    command = [sys.executable, "-m", "impasto", "resume", "--plain"]
    served: working.Worker = working.Worker(line, name, working.start(command, _environment(name)), say)
    say(f"lane {name} takes jobs from {line.path}")
    served.serve(_until_signal(), until_empty=until_empty)


def opened(path: Path | None) -> Queue:
    """The line, the usual one or another."""
    line = Queue(path or default_path(os.environ))
    if line.damaged:
        print(f"the queue could not be read and was set aside as {line.damaged}; add its runs again", file=sys.stderr)
    return line


def _made(config: settings.RunConfig) -> Path:
    """The folder of a run that is to be, so that it is seen wherever runs are."""
    return RunFolder.create(run_folder(config), settings.dump(config), {}).path


def _environment(lane: str) -> dict[str, str]:
    """A lane sees its own device only, so that the settings of a run need not name one."""
    kind, _, number = lane.partition(":")
    seen = {
        "cuda": {"CUDA_VISIBLE_DEVICES": number},
        "cpu": {"CUDA_VISIBLE_DEVICES": ""},
        "xpu": {"ZE_AFFINITY_MASK": number},
    }
    return {**os.environ, **seen.get(kind, {}), "PYTHONUNBUFFERED": "1"}


def _until_signal() -> Callable[[], bool]:
    """False until the first polite signal; the second ends the process as always."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    return lambda: bool(came)


def served(line: Queue) -> bool:
    """Whether any lane has a worker."""
    from impasto.lock import holder

    return any(holder(path) for path in line.path.parent.glob(f"{line.path.stem}-*.lock"))


def _names(job: Job) -> str:
    return ", ".join(group.at(folder).name for folder in job.folders)


def _progress(job: Job) -> str:
    return "/".join(str(group.at(folder).state().step) for folder in job.folders)


def say(text: str) -> None:
    """A line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
