"""What the pages that write need while the server lives: plans in the making, work under way, folders of pictures."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from impasto.store import Store
from impasto.web.chores import Chores
from impasto.web.folders import Shelf
from impasto.web.health import Health
from impasto.web.models import Cabinet
from impasto.web.planning import Planning
from impasto.web.site import Site


class Desk:
    """All of it, made once for a server."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.store = Store(site.store or site.cache / "store")
        self.planning = Planning(self.store)
        self.chores = Chores(site.state / "chores")
        self.folders = Shelf(site)
        self.cabinet = Cabinet(site)
        self.health = Health()

    def close(self) -> None:
        """Begin nothing any more."""
        self.planning.close()
        self.folders.close()
        self.chores.close()


def of_request(request: Request) -> Desk:
    """The desk of the server that was asked."""
    desk = request.app.state.desk
    assert isinstance(desk, Desk)
    return desk


At = Annotated[Desk, Depends(of_request)]
"""A parameter of a route."""
