"""Train the runs of a sweep: group by group, fleet by fleet, and stop the worse ones early.

What was decided (who trains side by side, what each rung measured, who stops) is written before it is acted on, and
the runs of a fleet always go on from one common step. So a sweep that was killed ends as if nothing had happened.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from impasto.engine.session import Show
from impasto.engine.siblings import Group
from impasto.engine.signals import StopRequest
from impasto.errors import ConfigError, DivergedError, Problem, UserError
from impasto.runs.group import Ended
from impasto.store import Store, default_root
from impasto.sweeps import expand, search
from impasto.sweeps.folder import SweepFolder


def sweep(
    folder: SweepFolder, *, strict: bool = False, show: Show | None = None, cache: Path | None = None
) -> list[Path]:
    """Train all runs of a sweep in this process, or go on with them; returns their folders.

    Raises UserError for what a user can mend, and Stopped when a signal asked for the end. A run that diverges is a
    result and no error.
    """
    runs = folder.runs()
    with folder.hold():
        groups = folder.make_groups(runs)
        for number in range(len(groups)):
            train_group(folder, number, strict=strict, show=show, cache=cache)
    errors = [error for group in groups if (ended := group.ended()) and (error := ended.error())]
    if errors:
        raise errors[0]
    return [folder.run(each.name).path for each in runs]


def train_whole(
    folder: SweepFolder, *, strict: bool = False, show: Show | None = None, cache: Path | None = None
) -> None:
    """Train a sweep to its end as one job of the line: round by round, where a round depends on those before it.

    What became of it is told in the folder that stands for all of it. Raises as `sweep` does.
    """
    own = folder.make_whole(folder.runs())

    def train(_: SweepFolder) -> None:
        folder.make_whole(folder.runs())
        sweep(folder, strict=strict, show=show, cache=cache)

    with own.hold():
        own.begin()
        try:
            search.train_all(folder, train)
        except UserError as error:
            own.end(Ended.by(error))
            raise
        own.end(Ended())


def train_group(
    folder: SweepFolder,
    number: int,
    *,
    strict: bool = False,
    show: Show | None = None,
    cache: Path | None = None,
    kept: Callable[[], None] = lambda: None,
) -> None:
    """Train the runs of a sweep that share a base, and tell in the group's folder what became of them.

    `kept` is called whenever all that a resume needs is on disk. Raises as `sweep` does for what ends all of the runs;
    what ended some of them, others going on, stands in the folder alone.
    """
    plan = folder.plan()
    groups = expand.groups(folder.runs())
    if number >= len(groups):
        fix = f"there are {len(groups)}: name the sweep's folder"
        raise ConfigError(Problem("E-SWP-004", "the sweep has no such group", str(folder.group(number).path), fix))
    own, stop, store = folder.group(number), StopRequest(), Store(cache or default_root(os.environ))
    with stop.listening(), own.hold():
        if own.is_done:
            return
        own.begin()
        group = Group(folder, number, groups[number], plan.sweep, store, stop, show, strict=strict, kept=kept)
        try:
            failures = group.train()
        except UserError as error:
            own.end(Ended.by(error))
            raise
        serious = [each for each in failures if not isinstance(each, DivergedError)]
        own.end(Ended.by(serious[0]) if serious else Ended())
