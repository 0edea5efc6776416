"""What the browser reads of the line and its lanes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from impasto.web.views import View

Move = Literal["first", "up", "down", "last"]


class Job(View):
    """One or more runs that train in one process when it is their turn."""

    id: int
    state: Literal["queued", "running", "done", "failed", "stopped", "lost"]
    reason: str
    lane: str | None
    """Where it must run; None: anywhere."""
    worker: str | None
    """Which lane has it."""
    runs: list[str]
    """Ids of those that are in a root of this server."""
    names: list[str]
    """Of all of them."""
    step: int
    total: int
    attempts: int
    added: float
    changed: float
    position: int | None
    """Its place among those that wait, from 1."""


class Lane(View):
    """Where trainings run, one after the other."""

    name: str
    worker: str | None
    """The process that serves it; None: nobody does."""
    held: bool
    """It takes no further job."""
    job: int | None
    """What it trains."""
    starts: bool
    """Whether this server starts a worker here when there is work."""


class Queue(View):
    """The line, and who takes from it."""

    lanes: list[Lane]
    jobs: list[Job]
    """In the order of the line; those that ended last."""
    warning: str
    """Something that is wrong with the line; else empty."""


class Enqueue(BaseModel):
    """Runs to train: each by itself, or all in one process."""

    run_ids: Annotated[list[Annotated[str, Field(max_length=8192)]], Field(min_length=1, max_length=1000)]
    lane: Annotated[str, Field(max_length=20)] | None = None
    together: bool = False


class Jobs(View):
    """Jobs that were made."""

    jobs: list[int]


class To(BaseModel):
    """Where in the line a job goes."""

    to: Move = "first"
