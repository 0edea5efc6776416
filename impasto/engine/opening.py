"""Take up a run: a new folder, one to go on with, or one that is finished."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from impasto import config as settings
from impasto import events, files
from impasto.checks import advice, run_folder
from impasto.config import RunConfig
from impasto.engine import changes
from impasto.engine.session import Session, Show
from impasto.errors import ConfigError, LockedError, Problem
from impasto.events import EventLog
from impasto.families import hub
from impasto.files import JSON
from impasto.preflight.plan import forecast
from impasto.preflight.show import brief
from impasto.runs.folder import RunFolder
from impasto.runs.machine import record
from impasto.store import Store

HUB = "hub"
"""Where a run's record keeps what was asked of the hub."""


@contextmanager
def opened(config: RunConfig, allow: frozenset[str], restart: bool, show: Show | None) -> Iterator[Session]:
    """Hold a run's folder for as long as the `with` lasts.

    Raises LockedError (exit code 8) if another process holds it, if something else is in its place, or if it was begun
    with settings that cannot be changed.
    """
    path = run_folder(config)
    if restart and path.exists():
        with RunFolder(path).hold():  # not from under a process that trains it
            pass
        files.aside(path)
    folder = _folder(path, config)
    with folder.hold(), EventLog(folder.events) as log:
        session = Session(config, folder, log, show)
        for line in _changed(folder, config, allow):
            session.tell(events.Noted(text=f"changed: {line}"))
        for problem in advice(config):
            session.tell(events.Warned(code=problem.code, text=str(problem)))
        files.write(folder.config, settings.dump(config).encode())
        if "libraries" not in folder.record():  # made by the queue, which knows of no library
            folder.update_record(record())
        try:
            yield session
        finally:
            session.trackers.close()


def pinned(config: RunConfig, *, restart: bool) -> RunConfig:
    """The same settings with a commit for all that is named by an id on the hub. A run that was begun with these ids
    keeps its commits, wherever a branch is now."""
    if not hub.given(config.model):
        return config
    path = run_folder(config)
    begun = RunFolder.open(path) if not restart and (path / "config.toml").is_file() else None
    if begun is not None and begun.record().get(HUB) == asked(config):
        held = settings.load(begun.config).model
        kept = {name: getattr(held, name) for name in ("revision", *hub.given(config.model))}
        return config.model_copy(update={"model": config.model.model_copy(update=kept)})
    return config.model_copy(update={"model": hub.pinned(config.model)})


def asked(config: RunConfig) -> dict[str, JSON]:
    """The ids on the hub that settings name."""
    return {name: str(where) for name, where in hub.given(config.model).items()}


def advise(session: Session, store: Store, *, strict: bool) -> None:
    """Say what the run will do and what is probably not meant, and keep in its record what was accepted.

    Raises ConfigError with `strict` and any advice.
    """
    made = session.forecast = forecast(session.config, session.card, session.feed, store)
    session.tell(events.Noted(text=brief(made)))
    if strict and made.advice:
        raise ConfigError(*made.advice)
    for problem in made.advice:
        session.tell(events.Warned(code=problem.code, text=str(problem)))
    accepted: list[JSON] = [problem.code for problem in made.advice]
    silenced: list[JSON] = list(session.config.output.silenced)
    session.folder.update_record({"advice": {"accepted": accepted, "silenced": silenced}})


def _folder(path: Path, config: RunConfig) -> RunFolder:
    if (path / "config.toml").is_file():
        return RunFolder.open(path)
    if path.is_dir() and any(path.iterdir()):
        fix = "give the run another name, or another output.folder"
        raise LockedError(Problem("E-RUN-002", "there is something here already that is no run", str(path), fix))
    return RunFolder.create(path, settings.dump(config), record())


def _changed(folder: RunFolder, config: RunConfig, allow: frozenset[str]) -> list[str]:
    """What is different from how the run was begun, where that may be."""
    before = settings.load(folder.config)
    if not any(folder.checkpoints.iterdir()):
        return []  # nothing was trained under the old settings yet
    return changes.check(settings.differences(before, config), allow, str(folder.path))
