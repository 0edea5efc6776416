"""A run on disk: one folder that holds all of it, and is all that others know of it.

config.toml                               resolved settings
record.json                               who and when: versions, device, seeds, fingerprints
events.jsonl                              what the run told
checkpoints/00000500/                     from where it can go on
adapters/anna-00000500.safetensors        adapter files to use
previews/00000500-0.png
control/                                  requests: stop, save, preview
anna.safetensors                          the final adapter
anna-best.safetensors                     the adapter where the loss on held-out pictures was lowest
anna-rank-0004.safetensors                the same cut to a rank (adapter.export_ranks), and ranks.png
loss.png
ledger.json                               what each picture cost while it was learnt
lock                                      held while it trains
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from impasto import events, files, lock
from impasto.errors import ConfigError, LockedError, Problem
from impasto.events import Dropped, Event, Failed, Finished, Halted, Resumed, Started, Step
from impasto.files import JSON

Request = Literal["stop", "save", "preview"]
"""What a run can be asked for, by an empty file of this name in its control folder."""

Stage = Literal["new", "running", "interrupted", "finished", "failed", "dropped"]

_TAIL = 1 << 16
_PLAIN = re.compile(r"[^/\\\x00]+")
_LIFE = (Started, Resumed, Step, Finished, Failed, Dropped, Halted)


@dataclass(frozen=True)
class State:
    """Where a run stands, as its files and its lock tell."""

    stage: Stage
    step: int
    """Steps done, as last told; a resume may go back to `saved`."""
    saved: int | None
    """Step of the newest checkpoint, if there is one."""
    holder: lock.Holder | None = None
    """Who trains it, if it is running."""
    error: str = ""
    """Why it failed, if it did."""


@dataclass(frozen=True)
class RunFolder:
    """The layout of a run on disk."""

    path: Path

    @classmethod
    def create(
        cls, path: Path, config: str, record: Mapping[str, JSON], begin: tuple[Path, bytes] | None = None
    ) -> RunFolder:
        """Make a run's folder with its settings and its record, all at once. It must be free.

        `begin`, of a run that is forked: the checkpoint folder it goes on from, and the lines of what happened before.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            fix = "give the run another name, or go on with the one that is there."
            raise LockedError(Problem("E-RUN-002", "there is something here already", str(path), fix))
        files.make_folder(path.parent)
        tmp = cls(files.temporary(path))
        files.make_folder(tmp.path)
        files.create(tmp.config, config.encode())
        files.create(tmp._record, _readable(record))
        for folder in (tmp.checkpoints, tmp.adapters_folder, tmp.previews, tmp.control):
            files.make_folder(folder)
        if begin is not None:
            checkpoint, past = begin
            files.make_folder(tmp.checkpoints / checkpoint.name)
            for each in sorted(checkpoint.iterdir()):
                files.create(tmp.checkpoints / checkpoint.name / each.name, files.read(each))
            files.create(tmp.events, past)
        files.commit_folder(tmp.path, path)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run in a folder that exists."""
        run = cls(path)
        if not run.config.is_file():
            what = f"is not the folder of a run: there is no {run.config.name} in it"
            raise ConfigError(Problem("E-RUN-003", what, str(path), "`impasto runs` lists the runs there are."))
        return run

    @property
    def name(self) -> str:
        """The run's name, as its settings say; else the folder's."""
        try:
            name = tomllib.loads(self.config.read_text("utf-8")).get("name")
        except (OSError, ValueError):
            name = None
        return name if isinstance(name, str) and _PLAIN.fullmatch(name) else self.path.name

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def previews(self) -> Path:
        return self.path / "previews"

    @property
    def adapters_folder(self) -> Path:
        return self.path / "adapters"

    @property
    def control(self) -> Path:
        return self.path / "control"

    @property
    def final(self) -> Path:
        """The adapter file of the whole training."""
        return self.path / f"{self.name}.safetensors"

    @property
    def best(self) -> Path:
        """The adapter file of the step where the loss on held-out pictures was lowest."""
        return self.path / f"{self.name}-best.safetensors"

    def final_of(self, rank: int) -> Path:
        """The final adapter cut to a rank."""
        return self.path / f"{self.name}-rank-{rank:04d}.safetensors"

    @property
    def ranks(self) -> Path:
        """What each rank is worth, as a picture."""
        return self.path / "ranks.png"

    @property
    def curve(self) -> Path:
        """The loss as a picture."""
        return self.path / "loss.png"

    @property
    def ledger(self) -> Path:
        """What each picture cost while it was learnt."""
        return self.path / "ledger.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def _record(self) -> Path:
        return self.path / "record.json"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"{step:08d}"

    def adapter(self, step: int) -> Path:
        """The adapter file of a step."""
        return self.adapters_folder / f"{self.name}-{step:08d}.safetensors"

    def preview(self, step: int, prompt: int) -> Path:
        """The picture of a prompt after a step."""
        return self.previews / f"{step:08d}-{prompt}.png"

    def adapters(self) -> list[Path]:
        """The adapter files of single steps, oldest step first."""
        found = self.adapters_folder.glob("*-[0-9]*.safetensors")
        return sorted((each for each in found if not files.is_temporary(each)), key=lambda path: path.stem[-8:])

    @staticmethod
    def step_of(adapter: Path) -> int:
        """The step of an adapter file of a single step."""
        return int(adapter.stem.rpartition("-")[2])

    def record(self) -> dict[str, JSON]:
        """Who and when. Empty if there is none that can be read: nothing depends on it."""
        try:
            found = json.loads(files.read(self._record))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def update_record(self, changes: Mapping[str, JSON]) -> None:
        """Add to the record, or change it."""
        files.write(self._record, _readable({**self.record(), **changes}))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one process that trains this run: lock it, and clear away what a dead one left half done.

        Raises LockedError if another process holds it, ConfigError if this is no run: we clear away nothing of others.
        """
        RunFolder.open(self.path)
        with lock.Lock(self.lock, beat=lock.BEAT):
            for folder in (self.path, self.checkpoints, self.adapters_folder, self.previews, self.control):
                files.make_folder(folder)
                files.clear(folder)
            for request in get_args(Request):
                files.unlink(self.control / request)  # it was meant for the process that is gone
            yield

    def state(self) -> State:
        """Where the run stands, from its files and its lock only."""
        holder = lock.holder(self.lock)  # first: a run that ends while we look has told so before it lets go
        told = _last(self.events)
        saved = max((int(each.name) for each in _folders(self.checkpoints) if each.name.isdecimal()), default=None)
        step = next((step for event in reversed(told) if (step := _step(event)) is not None), saved or 0)
        if holder:
            return State("running", step, saved, holder)
        match next((event for event in reversed(told) if isinstance(event, _LIFE)), None):
            case Finished():
                return State("finished", step, saved)
            case Dropped():
                return State("dropped", step, saved)
            case Failed(text=text):
                return State("failed", step, saved, error=text)
            case None if saved is None:
                return State("new", step, saved)
            case _:
                return State("interrupted", step, saved)


def runs_in(folder: Path) -> list[RunFolder]:
    """The runs in a folder, by name."""
    found = (RunFolder(path) for path in _folders(folder) if not files.is_temporary(path))
    return [run for run in found if run.config.is_file()]


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(each for each in path.iterdir() if each.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _step(event: Event) -> int | None:
    match event:
        case Started():
            return event.resumed_from or 0
        case Resumed() | Step() | Dropped() | Finished():
            return event.step
        case _:
            return None


def _last(path: Path) -> list[Event]:
    """The last events: enough of them to hold a start or an end, without reading a long run from its beginning."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return []
    reach = _TAIL
    while True:
        told, _ = events.tail(path, max(0, size - reach))
        if reach >= size or any(isinstance(event, _LIFE) for event in told):
            return told
        reach *= 8


def _readable(record: Mapping[str, JSON]) -> bytes:
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
