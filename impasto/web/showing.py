"""The line and its lanes, for the browser."""

from __future__ import annotations

from collections.abc import Sequence

from impasto.runs import queue as line_of
from impasto.web import views_queue as views
from impasto.web.line import Line, runs_of
from impasto.web.lines import text
from impasto.web.shelf import Shelf
from impasto.web.site import Site
from impasto.web.views import Summary

ENDED = 100
"""Jobs that have ended, at most: the newest."""


def shown(site: Site, line: Line, shelf: Shelf) -> views.Queue:
    """The line, and who takes from it."""
    jobs = line.jobs()
    runs = {each.id: each for each in shelf.summaries()[0]}
    alive = [each for each in jobs if each.state not in line_of.ENDED]
    alive.sort(key=lambda each: each.state != "running")
    over = sorted((each for each in jobs if each.state in line_of.ENDED), key=lambda each: -each.changed)[:ENDED]
    waiting = [each.id for each in alive if each.state == "queued"]
    return views.Queue(
        lanes=_lanes(site, line, alive),
        jobs=[_job(each, waiting, shelf, runs) for each in (*alive, *over)],
        warning=line.warning,
    )


def _lanes(site: Site, line: Line, alive: Sequence[line_of.Job]) -> list[views.Lane]:
    names = dict.fromkeys((*site.lanes, *line.lanes()))
    held = line.queue.held() if line.exists else set()
    return [
        views.Lane(
            name=name,
            worker=str(holder) if (holder := line.server(name)) else None,
            held=name in held,
            job=next((each.id for each in alive if each.state == "running" and each.worker == name), None),
            starts=name in site.lanes,
        )
        for name in names
    ]


def _job(job: line_of.Job, waiting: Sequence[int], shelf: Shelf, runs: dict[str, Summary]) -> views.Job:
    folders = runs_of(job)
    ids = [shelf.id_of(folder) for folder in folders]
    known = [runs[id] for id in ids if id in runs]
    return views.Job(
        id=job.id, state=job.state, reason=text(job.reason), lane=job.lane, worker=job.worker,
        runs=[id for id in ids if id is not None], names=[text(each.name) for each in folders],
        step=sum(each.step for each in known), total=sum(each.total for each in known), attempts=job.attempts,
        added=job.added, changed=job.changed, position=waiting.index(job.id) + 1 if job.id in waiting else None,
    )  # fmt: skip
