"""Sweeps as the browser sees them: which there are, and what each found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from impasto.errors import UserError
from impasto.sweeps import report as reports
from impasto.sweeps.folder import SweepFolder
from impasto.web.live import Live
from impasto.web.plain import plain
from impasto.web.problems import absent
from impasto.web.views import Summary
from impasto.web.views_lab import SweepEffect, SweepMember, SweepPick, SweepRow, SweepView

_ENDED = {"done", "stopped", "failed", "lost"}


def rows(live: Live) -> list[SweepRow]:
    """All sweeps in the folders of runs, by name."""
    known: dict[str, list[Summary]] = {}
    for run in live.shelf.summaries()[0]:
        if run.sweep is not None:
            known.setdefault(run.sweep, []).append(run)
    found = [_row(live, folder, known) for folder in _folders(live)]
    return sorted((row for row in found if row is not None), key=lambda row: row.name)


def view(live: Live, id: str) -> SweepView:
    """What a sweep found so far. Raises a 404 if there is none of this id."""
    folder = SweepFolder(live.site.inside(id, "runs"))
    if not folder.settings.is_file():
        raise absent(id)
    found = reports.report(folder)
    return SweepView(
        id=id,
        name=found.name,
        axes=list(found.axes),
        rows=[
            SweepMember(
                run=live.shelf.id_of(folder.run(row.name).path), name=row.name, variant=row.variant,
                point=plain(dict(row.point)), seed=row.seed, stage=row.stage, step=row.step, loss=row.loss,
                why=row.why, file=row.file,
            )
            for row in found.rows
        ],
        effects=[
            SweepEffect(
                key=each.key, base=plain(each.base), value=plain(each.value), mean=each.difference.mean,
                low=each.difference.low, high=each.difference.high, pairs=each.difference.pairs,
                certain=each.difference.certain,
            )
            for each in found.effects
        ],
        pick=_pick(found.pick),
        trained=found.trained,
        of=found.of,
    )  # fmt: skip


def _pick(found: reports.Pick | None) -> SweepPick | None:
    if found is None:
        return None
    return SweepPick(names=list(found.names), point=plain(dict(found.point)), loss=found.loss, reason=found.reason)


def _folders(live: Live) -> Iterator[SweepFolder]:
    for root in live.site.of("runs"):
        with os.scandir(root.path) as entries:
            for entry in entries:
                folder = SweepFolder(Path(entry.path))
                if entry.is_dir(follow_symlinks=False) and folder.settings.is_file():
                    yield folder


def _row(live: Live, folder: SweepFolder, known: dict[str, list[Summary]]) -> SweepRow | None:
    id = live.site.id_of(folder.path, "runs")
    if id is None:
        return None
    name, axes, count = folder.path.name, [], 0
    try:
        count = len(folder.state().runs)
        plan = folder.plan()
        name, axes = plan.name, [axis.key for axis in plan.axes]
    except UserError:  # its pictures are gone, or its settings are of another version: the table names it all the same
        pass
    members = known.get(id, [])
    losses = [run.validation for run in members if run.validation is not None]
    return SweepRow(
        id=id,
        name=name,
        axes=axes,
        runs=max(count, len(members)),
        done=sum(run.state in _ENDED for run in members),
        best=min(losses, default=None),
    )
