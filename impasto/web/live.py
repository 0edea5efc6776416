"""What a running server holds: tables it can make again from the folders at any time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from impasto.errors import UserError
from impasto.web.bell import Bell, post
from impasto.web.board import Board
from impasto.web.line import Line
from impasto.web.shelf import Shelf
from impasto.web.showing import shown
from impasto.web.site import Site
from impasto.web.stream import Tails
from impasto.web.tape import Tapes
from impasto.web.uploads import Uploads
from impasto.web.workers import Workers, impasto_worker

PAUSE = 2.0
"""Seconds between two looks whether a lane lacks a worker."""


class Live:
    """All of it, made once for a server."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.line = Line(site.queue)
        self.shelf = Shelf(site, self.line)
        self.tapes = Tapes()
        self.tails = Tails()
        self.board = Board(self.shelf, lambda: shown(site, self.line, self.shelf))
        self.bell = Bell(site.webhook, post) if site.webhook else None
        self.uploads = Uploads(site)
        self.workers = Workers(self.line, site.lanes, impasto_worker(site.queue, site.state))

    async def end(self) -> None:
        """Let all go that listen, for streams have no end of their own."""
        await self.board.end()
        await self.tails.end()


@asynccontextmanager
async def watching(app: FastAPI) -> AsyncIterator[None]:
    """While the server lives: read the runs, tell what changes, keep the lanes served."""
    live = of(app)
    tasks = [asyncio.create_task(each) for each in (live.board.watch(), _serve(live))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await live.tails.close()
        live.workers.let_go()
        app.state.desk.close()


async def _serve(live: Live) -> None:
    await asyncio.to_thread(_read_all, live)
    while True:
        with contextlib.suppress(UserError, OSError):  # the line cannot be used now: the pages say so; once more later
            await asyncio.to_thread(live.workers.see_to)
            if live.bell is not None:
                await asyncio.to_thread(live.bell.look, live.shelf.summaries()[0])
        await asyncio.sleep(PAUSE)


def _read_all(live: Live) -> None:
    """Before the first page asks."""
    while live.shelf.summaries(patience=0.0)[1]:
        pass


def of(app: FastAPI) -> Live:
    """What the server of an app holds."""
    live = app.state.live
    assert isinstance(live, Live)
    return live


def of_request(request: Request) -> Live:
    """What the server that was asked holds."""
    return of(request.app)


Now = Annotated[Live, Depends(of_request)]
"""A parameter of a route."""
