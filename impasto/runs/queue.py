"""What trains next, and on which lane: a table of jobs that any number of processes may look at and take from.

A job is one or more run folders that train in one process, or the folder of a group of a sweep's runs. The folders are
the truth about trainings; the table only says whose turn it is. So no job is trained twice even if the table is wrong:
a folder has one lock, and a run that is finished stays finished.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from impasto import files
from impasto.errors import ConfigError, DiskError, Problem

JobState = Literal["queued", "running", "done", "failed", "stopped", "lost"]
ENDED: tuple[JobState, ...] = ("done", "failed", "stopped", "lost")

FORMAT = 1
_PATIENCE = 30.0
"""Seconds to wait for another process that is writing."""

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT, folders TEXT NOT NULL, lane TEXT, place REAL NOT NULL,
  state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', worker TEXT, attempts INTEGER NOT NULL DEFAULT 0,
  reached INTEGER NOT NULL DEFAULT -1, added REAL NOT NULL, changed REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS changes (
  job INTEGER NOT NULL, time REAL NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS held (lane TEXT PRIMARY KEY);
CREATE INDEX IF NOT EXISTS turn ON jobs (state, place);
"""
_COLUMNS = "id, folders, lane, place, state, reason, worker, attempts, reached, added, changed"


@dataclass(frozen=True)
class Job:
    """One or more runs that train in one process when it is their turn."""

    id: int
    folders: tuple[Path, ...]
    lane: str | None
    """Where it must run; None: anywhere."""
    place: float
    """Its place in the line: the smallest is next."""
    state: JobState
    reason: str
    """Why it is in this state, in words."""
    worker: str | None
    """Which lane's worker has it."""
    attempts: int
    """How often it was taken up."""
    reached: int
    """The last step that was saved when it was taken up last; -1 if it never was."""
    added: float
    changed: float
    """Seconds since 1970; for people."""


@dataclass(frozen=True)
class Change:
    """Something that happened to a job."""

    job: int
    time: float
    state: JobState
    reason: str


class Queue:
    """The line of jobs in a file. Every method is one transaction: all of it happens, or none."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the line at `path`, or begin one. A file that cannot be read is set aside, and a new one begun."""
        self.path = path
        self.damaged: Path | None = None
        """Where a file was put that could not be read: its jobs are to be added again."""
        self._clock = clock
        files.make_folder(path.parent)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                raise _unusable(path, error) from None
            self.damaged = files.aside(path)
            self._prepare()

    def add(self, folders: Sequence[Path], *, lane: str | None = None) -> Job:
        """Put runs at the end of the line, to train in one process. Raises ConfigError if one is in it already."""
        with self._writing() as table:
            waiting = {path: job.id for job in _jobs(table) if job.state not in ENDED for path in job.folders}
            for folder in folders:
                if folder in waiting:
                    what = f"it is in the queue already, as job {waiting[folder]}"
                    raise ConfigError(Problem("E-QUE-001", what, str(folder), "`impasto queue list` shows the line"))
            last = table.execute("SELECT max(place) FROM jobs").fetchone()[0]
            now = self._clock()
            found = table.execute(
                "INSERT INTO jobs (folders, lane, place, state, added, changed) VALUES (?, ?, ?, 'queued', ?, ?)",
                (json.dumps([str(each) for each in folders]), lane, 1.0 + (last or 0.0), now, now),
            )
            assert found.lastrowid is not None
            self._note(table, found.lastrowid, "queued", "added")
            return _job(table, found.lastrowid)

    def jobs(self, *states: JobState) -> list[Job]:
        """The jobs in these states, or all, in the order of the line."""
        with self._reading() as table:
            return [each for each in _jobs(table) if not states or each.state in states]

    def job(self, id: int) -> Job:
        """One job. Raises ConfigError if there is none of that number."""
        with self._reading() as table:
            return _job(table, id)

    def changes(self, id: int) -> list[Change]:
        """What happened to a job, in order."""
        with self._reading() as table:
            rows = table.execute("SELECT job, time, state, reason FROM changes WHERE job = ? ORDER BY rowid", (id,))
            return [Change(*row) for row in rows]

    def claim(self, lane: str, reached: Callable[[Job], int]) -> Job | None:
        """Take the next job that may run on `lane`, so that nobody else does; None if there is none, or it is held.

        `reached` says which step of it was saved last.
        """
        with self._writing() as table:
            if table.execute("SELECT 1 FROM held WHERE lane = ?", (lane,)).fetchone():
                return None
            row = table.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE state = 'queued' AND (lane IS NULL OR lane = ?) "
                "ORDER BY place, id LIMIT 1",
                (lane,),
            ).fetchone()
            if row is None:
                return None
            found = _read(row)
            table.execute(
                "UPDATE jobs SET state = 'running', reason = ?, worker = ?, attempts = attempts + 1, reached = ?, "
                "changed = ? WHERE id = ?",
                (f"taken by lane {lane}", lane, reached(found), self._clock(), found.id),
            )
            self._note(table, found.id, "running", f"taken by lane {lane}")
            return _job(table, found.id)

    def mark(self, id: int, state: JobState, reason: str, *, of: tuple[JobState, ...] | None = None) -> bool:
        """Move a job to a state, saying why; only if it is in one of the states `of`, where they are given."""
        with self._writing() as table:
            job = _job(table, id)
            if of is not None and job.state not in of:
                return False
            worker = job.worker if state == "running" else None
            table.execute(
                "UPDATE jobs SET state = ?, reason = ?, worker = ?, changed = ? WHERE id = ?",
                (state, reason, worker, self._clock(), id),
            )
            self._note(table, id, state, reason)
            return True

    def move(self, id: int, *, before: int | None) -> None:
        """Let a job go before another one in the line, or to its end (None)."""
        with self._writing() as table:
            _job(table, id)
            waiting = [each for each in _jobs(table) if each.state == "queued" and each.id != id]
            if before is None:
                place = max((each.place for each in waiting), default=0.0) + 1.0
            else:
                after = _job(table, before)
                above = max((each.place for each in waiting if each.place < after.place), default=after.place - 2.0)
                place = (above + after.place) / 2
            table.execute("UPDATE jobs SET place = ? WHERE id = ?", (place, id))

    def forget(self) -> int:
        """Drop the jobs that have ended; their runs stay. Returns how many."""
        with self._writing() as table:
            marks = ", ".join("?" for _ in ENDED)
            table.execute(f"DELETE FROM changes WHERE job IN (SELECT id FROM jobs WHERE state IN ({marks}))", ENDED)
            return table.execute(f"DELETE FROM jobs WHERE state IN ({marks})", ENDED).rowcount

    def hold(self, lane: str, *, on: bool) -> None:
        """Let a lane take no further job, or let it take them again. What trains goes on."""
        with self._writing() as table:
            if on:
                table.execute("INSERT OR IGNORE INTO held VALUES (?)", (lane,))
            else:
                table.execute("DELETE FROM held WHERE lane = ?", (lane,))

    def held(self) -> set[str]:
        """The lanes that take no further job."""
        with self._reading() as table:
            return {row[0] for row in table.execute("SELECT lane FROM held")}

    def _note(self, table: sqlite3.Connection, id: int, state: JobState, reason: str) -> None:
        table.execute("INSERT INTO changes VALUES (?, ?, ?, ?)", (id, self._clock(), state, reason))

    def _prepare(self) -> None:
        with self._open() as table:
            if table.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("malformed")
            version = table.execute("PRAGMA user_version").fetchone()[0]
            if version > FORMAT:
                what = f"it was written by a later version of impasto (form {version}, this one knows {FORMAT})"
                raise ConfigError(Problem("E-QUE-002", what, str(self.path), "use that version, or another --queue"))
            table.executescript(_TABLES)
            table.execute(f"PRAGMA user_version = {FORMAT}")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # No write-ahead log: it does not work on network disks, and a line of jobs is written a few times a minute.
        table = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
        try:
            yield table
        finally:
            table.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._explained(), self._open() as table:
            yield table

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._explained(), self._open() as table:
            table.execute("BEGIN IMMEDIATE")
            try:
                yield table
            except BaseException:
                table.execute("ROLLBACK")
                raise
            table.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from None


def default_path(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The usual place of the line: where this system keeps what should outlive a program and is no document."""
    if (given := environ.get("XDG_STATE_HOME", "")) and os.path.isabs(given):
        return Path(given) / "impasto" / "queue.db"
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    match platform:
        case "win32":
            local = environ.get("LOCALAPPDATA")
            return (Path(local) if local else home / "AppData" / "Local") / "impasto" / "queue.db"
        case "darwin":
            return home / "Library" / "Application Support" / "impasto" / "queue.db"
        case _:
            return home / ".local" / "state" / "impasto" / "queue.db"


def _jobs(table: sqlite3.Connection) -> list[Job]:
    return [_read(row) for row in table.execute(f"SELECT {_COLUMNS} FROM jobs ORDER BY place, id")]


def _job(table: sqlite3.Connection, id: int) -> Job:
    row = table.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (id,)).fetchone()
    if row is None:
        fix = "`impasto queue list` shows the numbers"
        raise ConfigError(Problem("E-QUE-003", f"there is no job {id}", "command line", fix))
    return _read(row)


def _read(row: tuple[object, ...]) -> Job:
    id, folders, lane, place, state, reason, worker, attempts, reached, added, changed = row
    assert isinstance(folders, str)
    assert state in get_args(JobState)
    found = tuple(Path(each) for each in json.loads(folders))
    return Job(id, found, lane, place, state, reason, worker, attempts, reached, added, changed)  # type: ignore[arg-type]


def _unusable(path: Path, error: sqlite3.Error) -> DiskError:
    what = f"the queue cannot be used: {error}"
    return DiskError(Problem("E-QUE-004", what, str(path), "is the disk full, read-only or on a slow network?"))
