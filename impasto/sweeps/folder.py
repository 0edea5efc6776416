"""A sweep on disk: its settings, what was decided so far, and a folder for each run.

zorb-sweep/
  sweep.toml            the settings that all runs share, and what varies
  state.json            its runs
  groups/0/state.json   of runs that share a base: who trains side by side, what each rung measured and decided;
                        replaced in one stroke (the folder is that of impasto.runs.group)
  groups/all/           the whole sweep as one job of the line, where later runs follow from what earlier ones brought
  report.json report.txt
  zorb-rank4/ ...       the runs
  lock                  held while it trains
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from impasto import files, lock
from impasto.errors import ConfigError, LockedError, ModelFileError, Problem
from impasto.runs.folder import RunFolder
from impasto.runs.group import GroupFolder
from impasto.schema import Section
from impasto.sweeps import expand
from impasto.sweeps.expand import Plan, Run


class Rung(Section):
    """A moment at which variants were compared."""

    group: int
    """Which base: runs of one base are compared with each other only."""

    step: int
    losses: dict[str, float | None]
    """Of each run that came so far; None for one that has none that is a number."""

    dropped: dict[str, str] | None = None
    """Why each run that stops was stopped. None: nothing is decided yet."""


class Decided(Section):
    """What was decided so far: with it a sweep goes on as if nothing had happened."""

    version: Literal[1] = 1

    fleets: dict[str, tuple[tuple[str, ...], ...]] = Field(default={}, strict=False)
    """Which runs train side by side, by base and rung: decided once, so that a resume packs the same pictures."""

    rows: dict[str, int] = Field(default={})
    """Pictures in one forward pass, by base."""

    side_by_side: int = 0
    """Runs that fit at once, as was learnt when more did not; 0: nothing was learnt yet."""

    rungs: tuple[Rung, ...] = Field(default=(), strict=False)

    def dropped(self) -> dict[str, str]:
        """Runs that were stopped, each with the reason."""
        return {name: why for rung in self.rungs for name, why in (rung.dropped or {}).items()}

    def rung(self, group: int, step: int) -> Rung:
        """The rung as it stands."""
        return next(
            (r for r in self.rungs if (r.group, r.step) == (group, step)), Rung(group=group, step=step, losses={})
        )

    def with_rung(self, rung: Rung) -> Decided:
        """The same with this rung in place of what was known of it."""
        others = [each for each in self.rungs if (each.group, each.step) != (rung.group, rung.step)]
        return self.model_copy(update={"rungs": (*others, rung)})


class State(Decided):
    """The runs of a sweep, and what was decided of all of them."""

    runs: tuple[str, ...] = Field(strict=False)
    """All of them, in order."""

    proposed: tuple[tuple[dict[str, Any], ...], ...] = Field(default=(), strict=False)
    """With `optuna`: the combinations of each round after the first."""


@dataclass(frozen=True)
class SweepFolder:
    """The layout of a sweep on disk."""

    path: Path

    @classmethod
    def create(cls, plan: Plan, runs: list[Run]) -> SweepFolder:
        """The sweep's folder: a new one, or the one that is there with the same settings."""
        folder = cls(plan.folder)
        text = plan.text()
        if folder.settings.is_file():
            if folder.settings.read_text("utf-8") != text:
                what = "there is a sweep here already, with other settings"
                fix = f"go on with it: `impasto sweep {plan.folder}`; or give this one another name=…"
                raise LockedError(Problem("E-SWP-003", what, str(plan.folder), fix))
            return folder
        if plan.folder.exists() and not folder._is_free():
            fix = "give the sweep another name=…"
            raise LockedError(Problem("E-RUN-002", "there is something here already", str(plan.folder), fix))
        files.make_folder(plan.folder)
        folder.write(State(runs=tuple(each.name for each in runs)))
        files.write(folder.settings, text.encode())  # last: with it, it is a sweep
        return folder

    @classmethod
    def copied(cls, path: Path, settings: bytes, names: bytes) -> SweepFolder:
        """A copy of a sweep's folder, of what all its groups share."""
        folder = cls(path)
        files.make_folder(path)
        files.write(folder.names, names)
        files.write(folder.settings, settings)
        return folder

    def _is_free(self) -> bool:
        """Whether nothing is there but what a start that was killed has left."""
        own = self.names.name
        return self.path.is_dir() and all(each.name == own or files.is_temporary(each) for each in self.path.iterdir())

    @classmethod
    def open(cls, path: Path) -> SweepFolder:
        """The sweep in a folder that exists."""
        folder = cls(Path(path).absolute())
        if not folder.settings.is_file():
            what = f"is not the folder of a sweep: there is no {folder.settings.name} in it"
            fix = "`impasto sweep my.toml adapter.rank=4,16` begins one"
            raise ConfigError(Problem("E-SWP-004", what, str(path), fix))
        return folder

    @property
    def settings(self) -> Path:
        return self.path / "sweep.toml"

    @property
    def names(self) -> Path:
        """Which runs there are."""
        return self.path / "state.json"

    def plan(self) -> Plan:
        """What is swept."""
        plan = expand.read(str(self.settings), [], folder=self.path)
        return replace(plan, proposed=_read(self.names, State).proposed) if plan.sweep.method == "optuna" else plan

    def runs(self) -> list[Run]:
        """All its runs, in order. Raises LockedError if its settings are not those that it was begun with."""
        found = expand.runs(self.plan())
        if [each.name for each in found] != list(self.state().runs):
            fix = "undo the change, or sweep anew under another name"
            raise LockedError(Problem("E-SWP-003", "it was begun with other settings", str(self.settings), fix))
        return found

    def run(self, name: str) -> RunFolder:
        """The folder of a run."""
        return RunFolder(self.path / name)

    def group(self, number: int) -> GroupFolder:
        """The folder of the runs that share a base."""
        return GroupFolder(self.path / "groups" / str(number))

    @property
    def whole(self) -> GroupFolder:
        """The folder that stands for all its runs."""
        return GroupFolder(self.path / "groups" / "all")

    def make_whole(self, runs: Sequence[Run]) -> GroupFolder:
        """The folder that stands for all its runs, with those that there are by now."""
        return GroupFolder.create(self.whole.path, self.path.name, [f"../../{each.name}" for each in runs])

    def make_groups(self, runs: Sequence[Run]) -> list[GroupFolder]:
        """The folders of all groups."""
        return [
            GroupFolder.create(
                self.group(number).path, f"{self.path.name} base {number + 1}", [f"../../{each.name}" for each in group]
            )
            for number, group in enumerate(expand.groups(runs))
        ]

    def state(self) -> State:
        """Its runs, and what was decided so far in any of its groups."""
        state = _read(self.names, State)
        number = 0
        while self.group(number).path.is_dir():
            own = self.decided(number)
            limits = [each for each in (state.side_by_side, own.side_by_side) if each]
            state = state.model_copy(
                update={
                    "fleets": {**state.fleets, **own.fleets},
                    "rows": {**state.rows, **own.rows},
                    "side_by_side": min(limits, default=0),
                    "rungs": (*state.rungs, *own.rungs),
                }
            )
            number += 1
        return state

    def decided(self, number: int) -> Decided:
        """What was decided so far in a group."""
        path = self.group(number).decided
        return _read(path, Decided) if path.is_file() else Decided()

    def decide(self, number: int, decided: Decided) -> None:
        """Replace what was decided in a group, in one stroke."""
        files.write(self.group(number).decided, _written(decided))

    def write(self, state: State) -> None:
        """Name the runs."""
        files.write(self.names, _written(state))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one process that trains this sweep."""
        with lock.Lock(self.path / "lock"):
            files.clear(self.path)
            yield


Told = TypeVar("Told", bound=Decided)


def _written(told: Decided) -> bytes:
    return json.dumps(told.model_dump(mode="json"), indent=1).encode() + b"\n"


def _read(path: Path, kind: type[Told]) -> Told:
    try:
        return kind.model_validate_json(files.read(path))
    except (FileNotFoundError, ValidationError) as error:
        fix = "restore it from a copy, or sweep anew under another name"
        raise ModelFileError(Problem("E-SWP-005", "the sweep's state cannot be read", str(path), fix)) from error
