"""The line of trainings, and the lanes that take from it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from impasto.runs import lanes
from impasto.web import asking
from impasto.web.live import Now
from impasto.web.showing import shown
from impasto.web.views import Done
from impasto.web.views_queue import Enqueue, Jobs, Queue, To

router = APIRouter(tags=["queue"])

Number = Annotated[int, Path(ge=1, le=2**62)]
Lane = Annotated[str, Path(max_length=20)]


@router.get("/queue")
def queue(now: Now) -> Queue:
    """The line, and who takes from it."""
    return shown(now.site, now.line, now.shelf)


@router.post("/queue")
def enqueue(body: Enqueue, now: Now) -> Jobs:
    """Put runs at the end of the line."""
    folders = [now.shelf.run(id).path for id in dict.fromkeys(body.run_ids)]
    return Jobs(jobs=asking.enqueue(now, folders, lane=body.lane, together=body.together))


@router.post("/queue/forget")
def forget(now: Now) -> Done:
    """Drop the jobs that have ended from the list; their runs stay."""
    return Done(text=f"forgot {now.line.queue.forget()} jobs")


@router.post("/queue/{job}/move")
def move(job: Number, body: To, now: Now) -> Done:
    """Change a job's place in the line."""
    asking.move(now, now.line.queue.job(job), body.to)
    return Done(text="moved")


@router.post("/queue/{job}/cancel")
def cancel(job: Number, now: Now) -> Done:
    """Take a job out of the line; one that trains stops after its next step, and is saved."""
    return Done(text=asking.cancel(now, now.line.queue.job(job)))


@router.post("/queue/{job}/retry")
def retry(job: Number, now: Now) -> Done:
    """Put a job that has ended back into the line."""
    asking.retry(now, now.line.queue.job(job))
    return Done(text="it is in the line again")


@router.post("/lanes/{lane}/hold")
def hold(lane: Lane, now: Now) -> Done:
    """Let a lane take no further job; what trains goes on."""
    now.line.queue.hold(lanes.checked(lane), on=True)
    return Done(text=f"{lane} takes no further job")


@router.post("/lanes/{lane}/release")
def release(lane: Lane, now: Now) -> Done:
    """Let a lane take jobs again."""
    now.line.queue.hold(lanes.checked(lane), on=False)
    now.workers.see_to()
    return Done(text=f"{lane} takes jobs again")
