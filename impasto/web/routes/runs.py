"""Runs: what they are, what they tell, and what may be asked of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import Response, StreamingResponse

from impasto.runs import worker as working
from impasto.web import asking, curves, detail, marks, pictures
from impasto.web.facts import inner
from impasto.web.live import Now
from impasto.web.problems import absent
from impasto.web.stream import after as number_after
from impasto.web.views import Ask, Detail, Done, Fork, Log, Made, Marked, Marks, Message, Runs, Series

router = APIRouter(tags=["runs"])

_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}}}
}
_OUTPUT = 64 << 10
"""Bytes of what a process printed."""

Id = Annotated[str, Path(min_length=1, max_length=8192)]
Last = Annotated[str, Header(alias="Last-Event-ID", max_length=60)]
Known = Annotated[str, Header(alias="If-None-Match", max_length=100)]


@router.get("/runs")
def runs(now: Now) -> Runs:
    """All runs, the newest first."""
    found, left = now.shelf.summaries()
    return Runs(runs=found, reading=left)


@router.get("/runs/{id}")
def run(id: Id, now: Now) -> Detail:
    """All about a run but its curves."""
    entry = now.shelf.entry(id)
    others = now.shelf.entries()
    with now.tapes.of(entry.run.events) as tape:
        return detail.detail(entry, tape, others)


@router.get("/runs/{id}/series")
def series(
    id: Id,
    now: Now,
    points: Annotated[int, Query(ge=10, le=20_000)] = 2000,
    after: Annotated[int, Query(ge=-1, le=10**9)] = -1,
) -> Series:
    """Its curves, thinned to so many points each, of steps beyond `after`."""
    found = now.shelf.run(id)
    batch = detail.batch(found)
    with now.tapes.of(found.events) as tape:
        return curves.series(tape, points=points, after=after, batch=batch)


@router.get("/runs/{id}/stream", response_class=StreamingResponse, responses=_STREAM)
async def stream(id: Id, now: Now, last: Last = "") -> Response:
    """Its events as they come, beginning after `Last-Event-ID`, or with the first; the id is the line's number."""
    found = now.shelf.run(id)
    return _streaming(now.tails.listen(found.events, number_after(last)))


@router.get("/runs/{id}/log")
def log(id: Id, now: Now, after: Annotated[int, Query(ge=-1, le=10**12)] = -1) -> Log:
    """What it told in words, newest last, of lines beyond `after`."""
    found = now.shelf.run(id)
    with now.tapes.of(found.events) as tape:
        messages = [Message(**vars(each)) for each in tape.messages if each.line > after]
    output = inner(found, found.path / working.OUTPUT)
    printed = b""
    if output is not None:
        with output.open("rb") as file:
            file.seek(max(0, output.stat().st_size - _OUTPUT))
            printed = file.read(_OUTPUT)
    return Log(messages=messages, output=printed.decode("utf-8", "backslashreplace"))


@router.get("/runs/{id}/pictures/{name}", response_class=Response, responses=_PICTURE)
def picture(id: Id, name: Id, now: Now, w: Annotated[int, Query(ge=16, le=4096)] = 256, known: Known = "") -> Response:
    """A picture of the run, encoded anew, at most `w` wide."""
    path = detail.picture(now.shelf.run(id), name)
    if path is None:
        raise absent(name)
    return pictures.response(path, w, now.site.cache, known=known)


@router.post("/runs/{id}/requests")
def ask(id: Id, body: Ask, now: Now) -> Done:
    """Ask something of a run."""
    return Done(text=asking.ask(now, now.shelf.entry(id), body.kind))


@router.post("/runs/{id}/fork")
def fork(id: Id, body: Fork, now: Now) -> Made:
    """Make a run that goes on from a step of this one with other settings."""
    return asking.fork(now, now.shelf.entry(id), body.at, body.settings, go=body.enqueue)


@router.patch("/runs/{id}/marks")
def mark(id: Id, body: Marks, now: Now) -> Marked:
    """Note something about a run; what is left out stays."""
    noted = marks.change(now.shelf.run(id), body.model_dump(exclude_none=True))
    return Marked(tags=list(noted.tags), star=noted.star, note=noted.note)


@router.get("/stream", response_class=StreamingResponse, responses=_STREAM)
async def changes(now: Now, last: Last = "") -> Response:
    """`{kind: "run", run}`, `{kind: "gone", id}`, `{kind: "queue", queue}` whenever something changed; `{kind:
    "sync"}` when everything should be asked for anew."""
    return _streaming(now.board.listen(last))


@router.post("/quickstart")
def quickstart(now: Now) -> Made:
    """Put the built-in quickstart into the line."""
    return asking.quickstart(now)


def _streaming(parts: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(parts, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
