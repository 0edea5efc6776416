"""Runs: what they are, what they tell, and what may be asked of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, FastAPI, Header, Query
from fastapi.responses import Response, StreamingResponse

from impasto.web.problems import absent
from impasto.web.site import Here
from impasto.web.views import Ask, Detail, Done, Fork, Log, Made, Marked, Marks, Runs, Series

router = APIRouter(tags=["runs"])

_STREAM = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
_PICTURE = {200: {"content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}}}}

After = Annotated[str, Header(alias="Last-Event-ID", max_length=40)]


@asynccontextmanager
async def watching(app: FastAPI) -> AsyncIterator[None]:
    """While the server lives, look after the folders."""
    yield


@router.get("/runs")
def runs(site: Here) -> Runs:
    """All runs, the newest first."""
    return Runs(runs=[], reading=0)


@router.get("/runs/{id}")
def run(id: str, site: Here) -> Detail:
    """All about a run but its curves."""
    raise absent(id)


@router.get("/runs/{id}/series")
def series(
    id: str,
    site: Here,
    points: Annotated[int, Query(ge=10, le=20_000)] = 2000,
    after: Annotated[int, Query(ge=-1, le=10**9)] = -1,
) -> Series:
    """Its curves, thinned to so many points each, of steps beyond `after`."""
    raise absent(id)


@router.get("/runs/{id}/stream", response_class=StreamingResponse, responses=_STREAM)
async def stream(id: str, site: Here, last: After = "") -> Response:
    """Its events as they come, from the first one on or after `Last-Event-ID`; the id is the line's number."""
    raise absent(id)


@router.get("/runs/{id}/log")
def log(id: str, site: Here, after: Annotated[int, Query(ge=-1, le=10**9)] = -1) -> Log:
    """What it told in words, newest last, of lines beyond `after`."""
    raise absent(id)


@router.get("/runs/{id}/pictures/{name}", response_class=Response, responses=_PICTURE)
def picture(id: str, name: str, site: Here, w: Annotated[int, Query(ge=16, le=4096)] = 256) -> Response:
    """A picture of the run, encoded anew, at most `w` wide."""
    raise absent(id)


@router.post("/runs/{id}/requests")
def ask(id: str, body: Ask, site: Here) -> Done:
    """Ask something of a run."""
    raise absent(id)


@router.post("/runs/{id}/fork")
def fork(id: str, body: Fork, site: Here) -> Made:
    """Make a run that goes on from a step of this one with other settings."""
    raise absent(id)


@router.patch("/runs/{id}/marks")
def marks(id: str, body: Marks, site: Here) -> Marked:
    """Note something about a run."""
    raise absent(id)


@router.get("/stream", response_class=StreamingResponse, responses=_STREAM)
async def changes(site: Here, last: After = "") -> Response:
    """`{kind: "run", run}`, `{kind: "gone", id}`, `{kind: "queue", queue}` whenever something changed; `{kind:
    "sync"}` when everything should be asked for anew."""
    raise absent("stream")


@router.post("/quickstart")
def quickstart(site: Here) -> Made:
    """Put the built-in quickstart into the line."""
    raise absent("quickstart")
