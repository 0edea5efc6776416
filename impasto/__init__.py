"""impasto: train adapters for text-to-image diffusion models.

    import impasto
    folder, = impasto.train([impasto.RunConfig.model_validate({"data": {"sets": [{"path": "pictures"}]}})])
    for event in impasto.follow(folder):
        print(event)

Importing it costs little: torch is imported when something is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from impasto import events as _events
from impasto import lock as _lock
from impasto.config import RunConfig, load
from impasto.events import Event
from impasto.runs.folder import RunFolder

__version__ = "0.1.0"
__all__ = ["Event", "RunConfig", "follow", "history", "load", "sweep", "train"]


def train(
    configs: RunConfig | Sequence[RunConfig],
    *,
    allow: frozenset[str] = frozenset(),
    restart: bool = False,
    show: Callable[[Path, Event], None] | None = None,
    cache: Path | None = None,
) -> list[Path]:
    """Train one run, or several at once on one base, in this process; returns their folders.

    The same as `impasto train`: a run whose folder exists goes on from its last checkpoint. Raises
    `impasto.errors.UserError` for what a user can mend.
    """
    from impasto.engine.run import train as train_all

    several = [configs] if isinstance(configs, RunConfig) else list(configs)
    return train_all(several, allow=allow, restart=restart, show=show, cache=cache)


def sweep(
    file: Path | str,
    settings: Sequence[str] = (),
    *,
    show: Callable[[Path, Event], None] | None = None,
    cache: Path | None = None,
) -> Path:
    """Train many runs that differ in a few settings, in this process; returns the sweep's folder.

    The same as `impasto sweep`: `file` holds settings, or is the folder of a sweep to go on with; `settings` are laid
    over it, as `["adapter.rank=4,16", "sweep.seeds=2"]`. `impasto.sweeps.report` reads what it found. Raises
    `impasto.errors.UserError` for what a user can mend.
    """
    from impasto.engine.sweeping import sweep as train_all
    from impasto.sweeps import expand, search
    from impasto.sweeps.folder import SweepFolder

    if (Path(file) / "sweep.toml").is_file():
        folder = SweepFolder.open(Path(file))
    else:
        plan = expand.read(str(file), settings)
        folder = SweepFolder.create(plan, expand.runs(plan))
    search.train_all(folder, partial(train_all, show=show, cache=cache))
    return folder.path


def follow(folder: Path | str) -> Iterator[Event]:
    """What a run told so far and, for as long as a process trains it, what it goes on to tell."""
    run = RunFolder.open(Path(folder))
    yield from _events.follow(run.events, lambda: _lock.holder(run.lock) is None)


def history(folder: Path | str) -> list[Event]:
    """What a run told so far, without what a resume took back."""
    return _events.history(_events.read(RunFolder.open(Path(folder)).events))
