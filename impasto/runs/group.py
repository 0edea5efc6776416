"""Runs that train together and are compared while they do, as the queue sees them: one folder that stands for several.

zorb-sweep/groups/0/
  group.json      its name, and the folders of its runs
  state.json      what was decided so far (impasto.sweeps)
  ended.json      what became of it, once it came to its end
  lock            held while it trains
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from impasto import files, lock
from impasto.errors import ConfigError, Problem, UserError
from impasto.runs.folder import RunFolder, State

CLOSED = ("finished", "failed", "dropped")


@dataclass(frozen=True)
class Ended:
    """What became of a group: nothing was wrong, or what was."""

    code: int = 0
    """The exit code of impasto.errors."""

    problems: tuple[Problem, ...] = ()

    @classmethod
    def by(cls, error: UserError) -> Ended:
        """What an error says."""
        return cls(error.exit_code, error.problems)

    def error(self) -> UserError | None:
        """The error that it was."""
        if not self.problems:
            return None
        kinds = {kind.exit_code: kind for kind in UserError.__subclasses__()}
        return kinds.get(self.code, UserError)(*self.problems)


@dataclass(frozen=True)
class GroupFolder:
    """The layout of a group on disk."""

    path: Path

    @classmethod
    def create(cls, path: Path, name: str, runs: Sequence[str]) -> GroupFolder:
        """Make a group's folder, or name its runs anew. `runs` are told from the folder."""
        group = cls(path)
        text = json.dumps({"name": name, "runs": list(runs)}, indent=1).encode() + b"\n"
        files.make_folder(path)
        if not group.is_there or files.read(group._about) != text:
            files.write(group._about, text)
        return group

    @property
    def is_there(self) -> bool:
        return self._about.is_file()

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self._told().get("name", self.path.name))

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def decided(self) -> Path:
        """What was decided so far."""
        return self.path / "state.json"

    @property
    def _about(self) -> Path:
        return self.path / "group.json"

    @property
    def _ended(self) -> Path:
        return self.path / "ended.json"

    def runs(self) -> list[RunFolder]:
        """Its runs; some may have no folder yet."""
        told = self._told().get("runs", [])
        return [RunFolder((self.path / each).resolve()) for each in told] if isinstance(told, list) else []

    def begin(self) -> None:
        """What it ended with before is no longer true."""
        files.unlink(self._ended)

    def end(self, ended: Ended) -> None:
        """Tell what became of it."""
        files.write(self._ended, json.dumps(asdict(ended), indent=1).encode() + b"\n")

    def ended(self) -> Ended | None:
        """What became of it; None if it has not come to its end."""
        try:
            told = json.loads(files.read(self._ended))
            return Ended(int(told["code"]), tuple(Problem(**each) for each in told["problems"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    @property
    def is_done(self) -> bool:
        """Whether it came to a good end and nothing was taken away since."""
        ended = self.ended()
        return ended is not None and not ended.problems and all(run.state().stage in CLOSED for run in self.runs())

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one process that trains it."""
        with lock.Lock(self.lock, beat=lock.BEAT):
            files.clear(self.path)
            yield

    def state(self) -> State:
        """Where it stands: steps, and saved steps, of all its runs together."""
        holder = lock.holder(self.lock)
        each = [run.state() for run in self.runs()]
        step, saved = sum(one.step for one in each), sum(one.saved or 0 for one in each)
        if holder:
            return State("running", step, saved, holder)
        match self.ended():
            case None:
                return State("interrupted" if saved else "new", step, saved)
            case Ended(problems=()):
                return State("finished", step, saved)
            case Ended(problems=problems):
                return State("failed", step, saved, error="; ".join(map(str, problems)))

    def _told(self) -> dict[str, object]:
        try:
            found = json.loads(files.read(self._about))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def at(path: Path) -> RunFolder | GroupFolder:
    """What a folder holds that trains in a process of its own: a run, or a group of runs."""
    group = GroupFolder(path)
    return group if group.is_there else RunFolder(path)


def opened(path: Path) -> GroupFolder:
    """The group in a folder that exists."""
    group = GroupFolder(Path(path).absolute())
    if not group.is_there:
        what = "is not the folder of a group of a sweep's runs"
        raise ConfigError(Problem("E-SWP-004", what, str(path), "name the sweep's folder"))
    return group
