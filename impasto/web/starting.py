"""From settings in the browser to runs in the line."""

from __future__ import annotations

import re
from itertools import count, islice

from impasto import config as settings
from impasto import files
from impasto.checks import run_folder
from impasto.config import RunConfig
from impasto.errors import Problem
from impasto.runs.folder import RunFolder
from impasto.sweeps import search
from impasto.sweeps.folder import SweepFolder
from impasto.web import asking
from impasto.web.desk import Desk
from impasto.web.draft import Draft
from impasto.web.live import Live
from impasto.web.problems import Refused, absent
from impasto.web.views_configs import Started, StartGiven


def start(live: Live, desk: Desk, draft: Draft, given: StartGiven) -> Started:
    """Make what the settings mean, and put it into the line. Raises what is wrong with them."""
    if draft.problems or draft.config is None:
        raise Refused(422, *draft.problems)
    if given.go == "probe":
        return _probe(desk, draft.config)
    if draft.plan is not None:
        return _sweep(live, draft, given)
    made = asking.create(live, _named(draft.config), lane=given.lane, go=given.go != "draft")
    jobs = [] if made.job is None else [made.job]
    _hasten(live, jobs, given)
    return Started(run_ids=[made.id], jobs=jobs, sweep=None, chore=None)


def _named(config: RunConfig) -> RunConfig:
    """The same settings under a name that is free: `anna`, `anna-2` …"""
    stem = re.sub(r"-\d+$", "", config.name)
    later = (f"{stem[:90]}-{number}" for number in count(2))
    for name in (config.name, *islice(later, 1000)):
        found = config.model_copy(update={"name": name})
        if not run_folder(found).exists():
            return found
    raise Refused(409, Problem("E-RUN-002", "there are a thousand runs of this name", "name", "give it another one"))


def _probe(desk: Desk, config: RunConfig) -> Started:
    file = desk.site.state / "chores" / f"probe-{settings.fingerprint(config)[:16]}.toml"
    files.make_folder(file.parent)
    files.write(file, settings.dump(config).encode())
    chore = desk.chores.start(f"probe of {config.name}", ["plan", str(file), "--probe", "--json"],
                               lambda _: files.try_to_remove(file))  # fmt: skip
    return Started(run_ids=[], jobs=[], sweep=None, chore=chore.id)


def _sweep(live: Live, draft: Draft, given: StartGiven) -> Started:
    """A sweep's folder with all its runs in it, each a run like any other: so they are seen, moved and stopped. Runs
    that are compared while they train are one job for each base."""
    plan = draft.plan
    assert plan is not None
    search.check_installed(plan)
    folder = SweepFolder.create(plan, list(draft.runs))
    paths = [RunFolder.create(run_folder(each.config), settings.dump(each.config), {}).path for each in draft.runs]
    ids = [live.shelf.id_of(path, patience=0.0) for path in paths]
    size = max(1, plan.sweep.side_by_side)
    jobs: list[int] = []
    if given.go != "draft" and plan.sweep.method == "optuna":  # what it tries next follows from what it found
        whole = folder.make_whole(folder.runs())
        whole.begin()
        jobs += asking.enqueue(live, [whole.path], lane=given.lane)
    elif given.go != "draft" and plan.sweep.halving is not None:
        for each in folder.make_groups(folder.runs()):
            each.begin()
            jobs += asking.enqueue(live, [each.path], lane=given.lane)
    elif given.go != "draft":
        for at in range(0, len(paths), size):
            jobs += asking.enqueue(live, paths[at : at + size], lane=given.lane, together=True)
    _hasten(live, jobs, given)
    found = live.site.id_of(folder.path, "runs")
    if found is None:
        raise absent(plan.name)
    return Started(run_ids=[each for each in ids if each is not None], jobs=jobs, sweep=found, chore=None)


def _hasten(live: Live, jobs: list[int], given: StartGiven) -> None:
    if given.go == "now":
        for job in reversed(jobs):
            if live.line.queue.job(job).state == "queued":
                asking.move(live, live.line.queue.job(job), "first")
