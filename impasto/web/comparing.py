"""Pictures of several adapters side by side, drawn by `impasto compare` in a process of its own; blind votes on them.

A comparison is a folder beside the runs, as the command line makes it, with the request and the votes in it:

runs/comparisons/20261126-004512-1f3a/
  request.json   what was asked for
  compare.json   what was drawn, and cells/*.png; index.html is the page of `impasto compare`
  votes.json     what `impasto votes` reads
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import ValidationError

from impasto import files
from impasto.errors import Problem
from impasto.experiments import votes
from impasto.experiments.votes import Ballot, Vote
from impasto.web.chores import Chore, Chores
from impasto.web.lines import number, text, whole
from impasto.web.live import Live
from impasto.web.plain import plain
from impasto.web.problems import Refused, absent, told
from impasto.web.site import confined
from impasto.web.views_lab import (
    BallotGiven,
    Comparison,
    ComparisonView,
    DrawGiven,
    DrawnColumn,
    DrawnRow,
    OfRun,
    StandingView,
)

MOST = 1000
"""Pictures of one comparison."""
FOLDER = "comparisons"
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")
_CELL = re.compile(r"[0-9]{2,4}-[0-9]{2,4}\.png")


class Comparing:
    """The comparisons of a server."""

    def __init__(self, live: Live, chores: Chores) -> None:
        self._live = live
        self._chores = chores
        self._drawing: dict[str, Chore] = {}
        self._turn = threading.Lock()

    def begin(self, given: DrawGiven) -> str:
        """Draw pictures when it is their turn. Returns the id of the comparison."""
        total = (len(given.rows) + given.base) * max(1, len(given.prompts)) * max(1, len(given.seeds))
        if total > MOST:
            fix = "fewer rows, prompts or seeds; the rest in a second one"
            raise Refused(422, Problem("E-WEB-006", f"{total} pictures are more than {MOST}", "the comparison", fix))
        words = [self._word(row) for row in given.rows]
        place = self._place()
        id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
        arguments = ["compare", *words, "--out", str(place / id), f"--title={self._title(given)}"]
        arguments += [f"--prompt={each}" for each in given.prompts]
        arguments += [f"--seeds={','.join(map(str, given.seeds))}"] if given.seeds else []
        arguments += [] if given.base else ["--without-base"]
        if given.on is not None:
            arguments.append(f"--model={self._live.site.inside(given.on, 'models', 'data')}")
        asked = {"title": self._title(given), "made": time.time(), "total": total}
        with self._turn:
            self._drawing[id] = self._chores.start(f"compare {asked['title']}", arguments)
        files.make_folder(place / id)
        files.write(place / id / "request.json", json.dumps(asked).encode())
        return id

    def every(self) -> list[Comparison]:
        """All of them, the newest first."""
        place = self._place()
        names = sorted((each.name for each in place.iterdir()), reverse=True) if place.is_dir() else []
        found = [self._told(place / name) for name in names if _ID.fullmatch(name)]
        return [each for each in found if each is not None]

    def view(self, id: str) -> ComparisonView:
        """One with its pictures. Raises a 404 if there is none of this id."""
        folder = self._folder(id)
        row = self._told(folder)
        if row is None:
            raise absent(id)
        drawn = _read(folder / "compare.json")
        chore = self._drawing.get(id)
        given = self._votes(folder)
        return ComparisonView(
            **row.model_dump(),
            rows=[
                DrawnRow(label=text(each.get("label")), strength=number(each.get("strength")) or 0.0, run=None)
                for each in _tables(drawn.get("rows"))
            ],
            columns=[DrawnColumn(label=text(each.get("label"))) for each in _tables(drawn.get("columns"))],
            cells=list(_cells(drawn.get("cells"))),
            votes=len(given),
            standings=_standings(given),
            problems=told(chore.problems) if chore is not None else [],
        )

    def picture(self, id: str, name: str) -> Path:
        """The file of a picture. Raises a 404 if it is none."""
        folder = self._folder(id)
        if not _CELL.fullmatch(name):
            raise absent(name)
        path = confined(folder.resolve(), f"cells/{name}", name)
        if not path.is_file():
            raise absent(name)
        return path

    def vote(self, id: str, given: list[BallotGiven]) -> list[StandingView]:
        """Add votes to those that were given before."""
        folder = self._folder(id)
        labels = {text(each.get("label")) for each in _tables(_read(folder / "compare.json").get("rows"))}
        for each in given:
            if each.left == each.right or not {each.left, each.right} <= labels:
                what = f"{each.left} and {each.right} are not two rows of it"
                raise Refused(422, Problem("E-WEB-006", what, id, "load the page again"))
        with self._turn:
            every = (*self._votes(folder), *(Vote(**each.model_dump()) for each in given))
            files.write(folder / "votes.json", Ballot(votes=every).model_dump_json().encode())
        return _standings(every)

    def _place(self) -> Path:
        roots = self._live.site.of("runs")
        if not roots:
            raise absent(FOLDER)
        return roots[0].path / FOLDER

    def _folder(self, id: str) -> Path:
        folder = self._place() / id
        if not _ID.fullmatch(id) or not folder.is_dir():
            raise absent(id)
        return folder

    def _word(self, row: Any) -> str:
        """A row as the command line names it."""
        strength = "" if row.strength == 1 else f":{row.strength:g}"
        if isinstance(row, OfRun):
            at = "" if row.step is None else f"@{row.step}"
            return f"{self._live.shelf.run(row.run).path}{at}{strength}"
        path = self._live.site.inside(row.model, "models", "data", "runs")
        if path.suffix != ".safetensors":
            fix = "adapter files end with .safetensors"
            raise Refused(422, Problem("E-WEB-006", "this is no adapter file", row.model, fix))
        return f"{path}{strength}"

    def _title(self, given: DrawGiven) -> str:
        if given.title.strip():
            return given.title.strip()
        names = [
            self._live.shelf.run(row.run).name if isinstance(row, OfRun) else Path(row.model).stem for row in given.rows
        ]
        return ", ".join(dict.fromkeys(names))[:200]

    def _told(self, folder: Path) -> Comparison | None:
        asked = _read(folder / "request.json")
        if not asked:
            return None
        chore = self._drawing.get(folder.name)
        total = whole(asked.get("total"))
        is_done = (folder / "compare.json").is_file()
        state = "done" if is_done else "failed" if chore is None else _STATES[chore.state]
        return Comparison(
            id=folder.name, title=text(asked.get("title")), state=state,
            done=total if is_done else chore.done if chore is not None else 0, total=total,
            left=None if is_done or chore is None else chore.left(time.time()), made=number(asked.get("made")) or 0.0,
        )  # fmt: skip

    def _votes(self, folder: Path) -> tuple[Vote, ...]:
        try:
            return Ballot.model_validate_json(files.read(folder / "votes.json")).votes
        except (FileNotFoundError, ValidationError):
            return ()


def of_request(request: Request) -> Comparing:
    """The comparisons of the server that was asked."""
    comparing = request.app.state.comparing
    assert isinstance(comparing, Comparing)
    return comparing


Drawings = Annotated[Comparing, Depends(of_request)]
"""A parameter of a route."""

_STATES: Mapping[str, Any] = {"waiting": "waiting", "running": "drawing", "done": "done", "failed": "failed"}


def _standings(given: tuple[Vote, ...]) -> list[StandingView]:
    return [
        StandingView(
            row=each.row, strength=each.strength, low=each.low, high=each.high, chance=each.chance, won=each.won,
            shown=each.shown,
        )
        for each in votes.standings(given)
    ]  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    try:
        found = plain(json.loads(files.read(path)))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _tables(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _cells(value: object) -> Iterator[list[str | None]]:
    for row in value if isinstance(value, list) else []:
        names = [Path(text(each)).name for each in row] if isinstance(row, list) else []
        yield [name if _CELL.fullmatch(name) else None for name in names]
