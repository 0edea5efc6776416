"""Work on adapter files; models, storage, the machine."""

from __future__ import annotations

import time
from pathlib import Path as Place
from typing import Annotated

from fastapi import APIRouter, Path

from impasto.errors import Problem
from impasto.web import keys, storage
from impasto.web.chores import Chore
from impasto.web.desk import At, Desk
from impasto.web.live import Now
from impasto.web.problems import Refused, absent, told
from impasto.web.views_tools import (
    ChoreList,
    ChoreMade,
    ChoreView,
    Cleaned,
    CleanGiven,
    ConvertGiven,
    Doctor,
    ExtractGiven,
    InspectGiven,
    MergeGiven,
    Models,
    ResizeGiven,
    Storage,
    Tokens,
    VerifyGiven,
)

router = APIRouter(tags=["tools"])

Id = Annotated[str, Path(min_length=1, max_length=20)]


@router.get("/tools/models")
def models(desk: At) -> Models:
    """Models on disk, each with what it is."""
    return desk.cabinet.models()


@router.get("/tools/storage")
def storage_list(now: Now, desk: At) -> Storage:
    """What takes room."""
    return storage.told(now, desk.store)


@router.post("/tools/storage/clean")
def clean(body: CleanGiven, now: Now, desk: At) -> Cleaned:
    """Tell what would be removed; with `go`, remove it."""
    return storage.clean(now, desk.store, body.ids, days=body.days, go=body.go)


@router.get("/tools/tokens")
def tokens(desk: At) -> Tokens:
    """Which tokens and addresses of other services this server and its trainings have. None of them is told."""
    return keys.tokens(desk.site)


@router.get("/tools/doctor")
def doctor(desk: At) -> Doctor:
    """Whether this machine is ready."""
    return desk.health.checks()


@router.get("/tools/jobs")
def chores(desk: At) -> ChoreList:
    """Work that was begun, the newest first."""
    return ChoreList(jobs=[_shown(each) for each in reversed(desk.chores.all())])


@router.get("/tools/jobs/{id}")
def chore(id: Id, desk: At) -> ChoreView:
    """How far it is, and what came of it."""
    return _shown(_found(desk, id))


@router.post("/tools/jobs/{id}/cancel")
def cancel_chore(id: Id, desk: At) -> ChoreView:
    """End it."""
    found = _found(desk, id)
    desk.chores.cancel(found)
    return _shown(found)


@router.post("/tools/weights/inspect")
def inspect_weights(body: InspectGiven, desk: At) -> ChoreMade:
    """What a file holds."""
    return _begun(desk, f"look into {_name(body.file)}", ["inspect", str(desk.cabinet.file(body.file))])


@router.post("/tools/weights/verify")
def verify_weights(body: VerifyGiven, desk: At) -> ChoreMade:
    """Whether an adapter will load where it is to be used."""
    given = ["weights", "verify", str(desk.cabinet.file(body.file)), *_base(desk, body.base)]
    return _begun(desk, f"verify {_name(body.file)}", given)


@router.post("/tools/weights/resize")
def resize_weights(body: ResizeGiven, desk: At) -> ChoreMade:
    """Write an adapter again with other ranks."""
    given = ["weights", "resize", str(desk.cabinet.file(body.file)), *_ranks(body), *_base(desk, body.base)]
    return _begun(desk, f"resize {_name(body.file)}", [*given, "--out", str(_free(desk, body.out)), "--json"])


@router.post("/tools/weights/merge")
def merge_weights(body: MergeGiven, desk: At) -> ChoreMade:
    """Make one adapter of several, or a base of a base and adapters."""
    given = ["weights", "merge", *(f"{desk.cabinet.file(each.file)}:{each.strength:.6f}" for each in body.files)]
    given += [] if body.into is None else ["--into", desk.cabinet.path(body.into)]
    given += [*_ranks(body), *_base(desk, body.base)]
    given += [] if body.precision is None else ["--precision", body.precision]
    out = _free(desk, body.out, any_name=body.into is not None)
    return _begun(desk, f"merge {len(body.files)} adapters", [*given, "--out", str(out), "--json"])


@router.post("/tools/weights/extract")
def extract_weights(body: ExtractGiven, desk: At) -> ChoreMade:
    """Make a LoRA of the difference between two bases."""
    given = ["weights", "extract", desk.cabinet.path(body.tuned), desk.cabinet.path(body.base), *_ranks(body)]
    given += ["--precision", body.precision, "--out", str(_free(desk, body.out)), "--json"]
    return _begun(desk, f"extract from {_name(body.tuned)}", given)


@router.post("/tools/weights/convert")
def convert_weights(body: ConvertGiven, desk: At) -> ChoreMade:
    """Write a LoRA with other names for its layers."""
    given = ["weights", "convert", str(desk.cabinet.file(body.file)), "--to", body.to, *_base(desk, body.base)]
    return _begun(desk, f"convert {_name(body.file)}", [*given, "--out", str(_free(desk, body.out))])


def _begun(desk: Desk, what: str, arguments: list[str]) -> ChoreMade:
    return ChoreMade(job=desk.chores.start(what, arguments).id)


def _ranks(body: ResizeGiven | MergeGiven | ExtractGiven) -> list[str]:
    given = {"--rank": body.rank, "--energy": body.energy, "--frobenius": body.frobenius}
    return [word for name, value in given.items() if value is not None for word in (name, str(value))]


def _base(desk: Desk, base: str | None) -> list[str]:
    return [] if base is None else ["--base", desk.cabinet.path(base)]


def _free(desk: Desk, id: str, *, any_name: bool = False) -> Place:
    """Where a new file can be written: in a folder of models or of runs, under a name that is free."""
    path = desk.site.fresh(id, "models", "runs")
    if not any_name and path.suffix != ".safetensors":
        raise Refused(422, Problem("E-WEB-027", "its name must end with .safetensors", id, f"{id}.safetensors"))
    return path


def _name(id: str) -> str:
    return id.rpartition("/")[2][:80]


def _found(desk: Desk, id: str) -> Chore:
    found = desk.chores.get(id)
    if found is None:
        raise absent(id)
    return found


def _shown(found: Chore) -> ChoreView:
    return ChoreView(
        id=found.id, what=found.what, state=found.state, done=found.done, total=found.total, text=found.text,
        left=found.left(time.time()), result=found.result, problems=told(found.problems), begun=found.begun,
    )  # fmt: skip
