"""The line of trainings, and the lanes that take from it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from impasto.web.problems import absent
from impasto.web.site import Here
from impasto.web.views import Done, Enqueue, Jobs, Queue, To

router = APIRouter(tags=["queue"])

Number = Annotated[int, Path(ge=1, le=2**62)]
Lane = Annotated[str, Path(max_length=20)]


@router.get("/queue")
def queue(site: Here) -> Queue:
    """The line, and who takes from it."""
    return Queue(lanes=[], jobs=[], warning="")


@router.post("/queue")
def enqueue(body: Enqueue, site: Here) -> Jobs:
    """Put runs at the end of the line."""
    raise absent("queue")


@router.post("/queue/{job}/move")
def move(job: Number, body: To, site: Here) -> Done:
    """Change a job's place in the line."""
    raise absent(str(job))


@router.post("/queue/{job}/cancel")
def cancel(job: Number, site: Here) -> Done:
    """Take a job out of the line; one that trains stops after its next step, and is saved."""
    raise absent(str(job))


@router.post("/queue/{job}/retry")
def retry(job: Number, site: Here) -> Done:
    """Put a job that has ended back into the line."""
    raise absent(str(job))


@router.post("/queue/forget")
def forget(site: Here) -> Done:
    """Drop the jobs that have ended from the list; their runs stay."""
    raise absent("queue")


@router.post("/lanes/{lane}/hold")
def hold(lane: Lane, site: Here) -> Done:
    """Let a lane take no further job; what trains goes on."""
    raise absent(lane)


@router.post("/lanes/{lane}/release")
def release(lane: Lane, site: Here) -> Done:
    """Let a lane take jobs again."""
    raise absent(lane)
