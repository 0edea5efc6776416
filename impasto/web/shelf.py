"""All runs of the site, as a table: read from their folders, and kept up to date by looking at what changed.

A look at a run that has not changed costs a few `stat`s, so five hundred runs are looked at in milliseconds. Ids are
keys of this table and nothing else: an id that is not in it names no run, whatever it looks like.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from impasto import lock
from impasto.runs.folder import RunFolder
from impasto.runs.queue import Job
from impasto.web import digest, marks, standing
from impasto.web.digest import Digest
from impasto.web.facts import Facts, facts, inner
from impasto.web.line import Line
from impasto.web.marks import Noted
from impasto.web.problems import absent
from impasto.web.site import Root, Site
from impasto.web.views import Summary

Stamp = tuple[int, int, int]
_NONE: Stamp = (0, 0, 0)

PATIENCE = 0.25
"""Seconds for which a look is fresh enough."""
BUDGET = 0.7
"""Seconds for reading runs that were never read, at one look: the others come with the next one."""
SILENCE = 11.0
"""Seconds without a sign of life after which a process that gives some (`lock.BEAT`) is not waited for."""
STRIDE = 2.0
"""Seconds of silence that one look counts at most: a server that slept itself has heard nobody, and blames nobody."""
DEEP = 2
"""Folders in folders that are looked into: sweeps hold their runs."""


@dataclass
class Entry:
    """A run, and what was last seen of it."""

    id: str
    run: RunFolder
    root: Root
    stamps: dict[str, Stamp] = field(default_factory=dict)
    digest: Digest = field(default_factory=Digest)
    facts: Facts = field(default_factory=Facts)
    noted: Noted = field(default_factory=Noted)
    saved: int | None = None
    held: bool = False
    silence: float = 0.0
    """Seconds for which the process that holds it gave no sign of life, of a kind that gives some."""
    looked: float = 0.0
    final: bool = False
    asked: bool = False
    """Whether a request to stop lies in its control folder."""
    read: bool = False
    shown: Summary | None = None

    @property
    def silent(self) -> bool:
        """Whether a process holds it that is stopped, or hangs."""
        return self.held and self.silence > SILENCE

    def hear(self, holder: lock.Holder | None, *, beaten: bool) -> bool:
        """Take in who holds it, and whether the lock was touched; whether that is news."""
        before, now = (self.held, self.silent), time.monotonic()
        self.held = holder is not None
        if holder is None or not holder.beat or beaten:
            self.silence = 0.0
        else:
            self.silence += min(now - self.looked, STRIDE)
        self.looked = now
        return before != (self.held, self.silent)


class Shelf:
    """The table of runs."""

    def __init__(self, site: Site, line: Line) -> None:
        self._site = site
        self._line = line
        self._entries: dict[str, Entry] = {}
        self._ids: dict[Path, str] = {}
        self._looked = self._found = 0.0
        self._left = 0
        self._turn = threading.Lock()

    def summaries(self, *, patience: float = PATIENCE) -> tuple[list[Summary], int]:
        """All runs, the newest first, and how many were not read yet."""
        with self._turn:
            if time.monotonic() - self._looked > patience:
                self._look()
            shown = [entry.shown for entry in self._entries.values() if entry.shown is not None]
            return sorted(shown, key=lambda each: -(each.last_sign or each.started or 0.0)), self._left

    def entry(self, id: str) -> Entry:
        """A run, looked at now. Raises a 404 if there is none of this id."""
        with self._turn:
            if id not in self._entries:
                self._find()
            entry = self._entries.get(id)
            if entry is None or not os.path.isfile(entry.run.config):
                raise absent(id)
            self._refresh(entry, self._line.jobs_of(), now=time.time())
            return entry

    def run(self, id: str) -> RunFolder:
        """The folder of a run."""
        return self.entry(id).run

    def id_of(self, folder: Path, *, patience: float = PATIENCE) -> str | None:
        """The id of a run's folder, if it is one of the site's. One that was made just now needs a fresh look."""
        whole = Path(os.path.realpath(folder))
        with self._turn:
            if whole not in self._ids and time.monotonic() - self._found >= patience:
                self._find()
            return self._ids.get(whole)

    def entries(self) -> list[Entry]:
        """All that were read, for those who look for kin."""
        self.summaries()
        with self._turn:
            return [entry for entry in self._entries.values() if entry.read]

    def _look(self) -> None:
        self._find()
        jobs, now, begun = self._line.jobs_of(), time.time(), time.monotonic()
        self._left = 0
        for entry in self._entries.values():
            if entry.read or time.monotonic() - begun < BUDGET:
                self._refresh(entry, jobs, now=now)
            else:
                self._left += 1
        self._looked = time.monotonic()

    def _find(self) -> None:
        found = {id: (path, root) for root in self._site.of("runs") for id, path in _runs(root)}
        for id in self._entries.keys() - found.keys():
            del self._entries[id]
        for id, (path, root) in found.items():
            if id not in self._entries:
                self._entries[id] = Entry(id, RunFolder(path), root)
        self._ids = {path: id for id, (path, _) in found.items()}
        self._found = time.monotonic()

    def _refresh(self, entry: Entry, jobs: Mapping[Path, Job], *, now: float) -> None:
        """Read again what has changed of a run."""
        run, job = entry.run, jobs.get(entry.run.path)
        changed = {name for name, path in _watched(run) if _changed(entry, name, path)}
        if entry.held or changed & {"lock", "events"}:
            holder = lock.holder(run.lock)  # first: a run that ends tells so before it lets go
            changed |= {"held"} if entry.hear(holder, beaten="lock" in changed) else set()
        if changed & {"config", "record"}:
            entry.facts = facts(run)
        if changed & {"events", "held"}:
            entry.digest = digest.read(run.events, entry.digest)
        if entry.digest.file is not None and _changed(entry, "file", run.path / entry.digest.file):
            changed |= {"file"}
        if changed & {"events", "held", "file"}:
            entry.final = entry.digest.file is not None and inner(run, run.path / entry.digest.file) is not None
        if "marks" in changed:
            entry.noted = marks.read(run)
        if "checkpoints" in changed:
            entry.saved = _saved(run)
        if "control" in changed:
            entry.asked = os.path.exists(run.control / "stop")
        if changed or job is not None or not entry.read or _is_unsettled(entry):
            entry.shown = self._shown(entry, job, now)
        entry.read = True

    def _shown(self, entry: Entry, job: Job | None, now: float) -> Summary:
        told, facts = entry.digest, entry.facts
        state, reason = standing.state(entry, job, self._line.place(job), now=now)
        parent = next(
            (each.id for each in self._entries.values() if facts.parent_session == each.facts.session != ""),
            facts.parent or None,
        )
        sweep = entry.run.path.parent
        trains = state in ("training", "finishing", "preparing")
        return Summary(
            id=entry.id, name=facts.name or _readable(entry.run.path.name),
            folder=_readable(self._site.id_of(entry.run.path, "runs") or ""), state=state, reason=reason,
            step=told.step if told.total else entry.saved or told.step, total=told.total or facts.total,
            saved=entry.saved, epoch=told.epoch, phase=told.phase if trains else "",
            phase_done=told.phase_done if trains else 0, phase_total=told.phase_total if trains else 0, loss=told.loss,
            validation=told.validation, seconds_per_step=told.seconds_per_step,
            eta=told.eta if state in ("training", "finishing") else None, silent=entry.silent, started=told.started,
            ended=told.last_sign if state in ("done", "stopped", "failed", "lost", "paused") else None,
            last_sign=told.last_sign or entry.stamps.get("config", _NONE)[1] / 1e9 or None, family=facts.family,
            base=facts.base, kind=facts.kind, rank=facts.rank, preview=told.preview, recommended=told.recommended,
            file=told.file if entry.final else None, warnings=told.warnings, memory=told.memory,
            spark=list(told.spark) if trains else [], tags=list(entry.noted.tags), star=entry.noted.star,
            note=entry.noted.note, parent=parent, parent_step=facts.parent_step,
            sweep=self._site.id_of(sweep, "runs") if os.path.isfile(sweep / "sweep.toml") else None,
            job=job.id if job is not None and job.state in ("queued", "running") else None,
        )  # fmt: skip


def _watched(run: RunFolder) -> Iterator[tuple[str, Path]]:
    yield "events", run.events
    yield "config", run.config
    yield "record", run.path / "record.json"
    yield "marks", marks.path(run)
    yield "lock", run.lock
    yield "checkpoints", run.checkpoints
    yield "control", run.control


def _changed(entry: Entry, name: str, path: Path) -> bool:
    try:
        status = os.lstat(path)
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError):
        stamp = _NONE
    before = entry.stamps.get(name)
    entry.stamps[name] = stamp
    return before != stamp


def _is_unsettled(entry: Entry) -> bool:
    """Whether its state may change although no file does."""
    return entry.shown is None or entry.shown.state in ("queued", "preparing", "training", "finishing")


def _runs(root: Root) -> Iterator[tuple[str, Path]]:
    """Ids and folders of the runs in a root."""
    for parts, path in _folders(root.path, root.path, ()):
        yield ":".join((root.id, *map(_escaped, parts))), path


def _folders(top: Path, folder: Path, parts: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Path]]:
    try:
        with os.scandir(folder) as found:
            children = [each for each in found if not each.name.startswith(".") and each.is_dir()]
    except OSError:
        return
    for child in children:
        path = Path(child.path)
        if child.is_symlink():
            path = Path(os.path.realpath(path))
            if not path.is_relative_to(top) or path == top:
                continue
        here = (*parts, child.name)
        if os.path.isfile(path / "config.toml"):
            yield here, path
        elif len(here) < DEEP:
            yield from _folders(top, path, here)


def _escaped(name: str) -> str:
    whole = name.replace("%", "%25").replace(":", "%3A")
    return "".join(f"%{ord(each) - 0xDC00:02X}" if 0xDC80 <= ord(each) <= 0xDCFF else each for each in whole)


def _readable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _saved(run: RunFolder) -> int | None:
    try:
        names = os.listdir(run.checkpoints)
    except OSError:
        return None
    return max((int(each) for each in names if each.isdecimal() and each.isascii()), default=None)
