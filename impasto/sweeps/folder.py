"""A sweep on disk: its settings, what was decided so far, and a folder for each run.

zorb-sweep/
  sweep.toml            the settings that all runs share, and what varies
  state.json            which runs train together, what each rung measured and decided; replaced in one stroke
  report.json report.txt
  zorb-rank4/ ...       the runs
  lock                  held while it trains
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from impasto import files, lock
from impasto.errors import ConfigError, LockedError, ModelFileError, Problem
from impasto.runs.folder import RunFolder
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


class State(Section):
    """What was decided so far: with it a sweep goes on as if nothing had happened."""

    version: Literal[1] = 1
    runs: tuple[str, ...] = Field(strict=False)
    """All of them, in order."""

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

    def with_rung(self, rung: Rung) -> State:
        """The state with this rung in place of what was known of it."""
        others = [each for each in self.rungs if (each.group, each.step) != (rung.group, rung.step)]
        return self.model_copy(update={"rungs": (*others, rung)})


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

    def _is_free(self) -> bool:
        """Whether nothing is there but what a start that was killed has left."""
        own = self._state.name
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
    def _state(self) -> Path:
        return self.path / "state.json"

    def plan(self) -> Plan:
        """What is swept."""
        return expand.read(str(self.settings), [], folder=self.path)

    def run(self, name: str) -> RunFolder:
        """The folder of a run."""
        return RunFolder(self.path / name)

    def state(self) -> State:
        """What was decided so far."""
        try:
            return State.model_validate_json(files.read(self._state))
        except (FileNotFoundError, ValidationError) as error:
            fix = "restore it from a copy, or sweep anew under another name"
            raise ModelFileError(
                Problem("E-SWP-005", "the sweep's state cannot be read", str(self._state), fix)
            ) from error

    def write(self, state: State) -> None:
        """Replace what was decided, in one stroke."""
        files.write(self._state, json.dumps(state.model_dump(mode="json"), indent=1).encode() + b"\n")

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one process that trains this sweep."""
        with lock.Lock(self.path / "lock"):
            files.clear(self.path)
            yield
