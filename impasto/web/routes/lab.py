"""Sweeps, comparisons and votes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from impasto.web import pictures, sweeping
from impasto.web.comparing import Drawings
from impasto.web.live import Now
from impasto.web.site import Here
from impasto.web.views_lab import (
    BallotsGiven,
    Begotten,
    Comparisons,
    ComparisonView,
    DrawGiven,
    Standings,
    SweepRows,
    SweepView,
)

router = APIRouter(tags=["lab"])

Id = Annotated[str, Path(max_length=100)]
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get("/lab/sweeps")
def sweep_list(now: Now) -> SweepRows:
    """All sweeps in the folders of runs."""
    return SweepRows(sweeps=sweeping.rows(now))


@router.get("/lab/sweeps/{id:path}")
def sweep(id: Annotated[str, Path(max_length=4096)], now: Now) -> SweepView:
    """What a sweep found so far: its runs, what each value did, which variant to take."""
    return sweeping.view(now, id)


@router.get("/lab/compare")
def comparison_list(drawings: Drawings) -> Comparisons:
    """All comparisons, the newest first."""
    return Comparisons(compares=drawings.every())


@router.post("/lab/compare")
def draw(body: DrawGiven, drawings: Drawings) -> Begotten:
    """Draw the same prompts from the same noise with several adapters."""
    return Begotten(id=drawings.begin(body))


@router.get("/lab/compare/{id}")
def comparison(id: Id, drawings: Drawings) -> ComparisonView:
    """A comparison with the names of its pictures, and how its rows fare in votes."""
    return drawings.view(id)


@router.get("/lab/compare/{id}/pictures/{name}", response_class=Response, responses=_PICTURE)
def comparison_picture(
    id: Id, name: Id, site: Here, drawings: Drawings, w: Annotated[int, Query(ge=16, le=4096)] = 256
) -> Response:
    """A picture of a comparison, encoded anew, at most `w` wide."""
    return pictures.response(drawings.picture(id, name), w, site.cache)


@router.post("/lab/compare/{id}/votes")
def vote(id: Id, body: BallotsGiven, drawings: Drawings) -> Standings:
    """Add blind votes."""
    return Standings(standings=drawings.vote(id, body.votes))
