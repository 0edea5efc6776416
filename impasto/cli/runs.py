"""Looking at runs, and asking something of one that is training."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclopts import App

from impasto import events
from impasto.cli.display import picked, seconds_of, shares
from impasto.cli.text import amount, columns, number
from impasto.config import RunConfig, differences, load
from impasto.errors import ConfigError, Problem, UserError
from impasto.events import Picked, Preview, Proven, Saved, Spent, Started, Step, Validated, Warned
from impasto.files import JSON
from impasto.runs import control
from impasto.runs import ledger as ledgers
from impasto.runs.folder import RunFolder, State, runs_in
from impasto.runs.ledger import Row
from impasto.settings import fields
from impasto.settings.source import shown
from impasto.settings.suggest import nearest

RUNS = Path("runs")
app = App(name="runs", help="List the runs: where they stand, and what they made.")
_ENDS = 1 << 16


@app.default
def runs(*, runs: Path = RUNS) -> None:
    """List the runs: where they stand, and what they made.

    Parameters
    ----------
    runs
        The folder of runs.
    """
    rows = [_row(run) for run in sorted(runs_in(runs), key=_touched)]
    if rows:
        print(columns(["name", "state", "step", "loss", "last sign", "file"], rows))
    else:
        print(f"no runs in {runs.absolute()}")


def show(run: str, /, *, runs: Path = RUNS, ledger: bool = False) -> None:
    """Tell all about a run: its settings, progress, losses, files, previews and proof.

    Parameters
    ----------
    run
        A run folder, or the name of a run in the folder of runs.
    runs
        The folder of runs.
    ledger
        Tell what each picture cost while it was learnt instead.
    """
    folder = found(run, runs)
    if ledger:
        print("\n".join(booked(ledgers.read(folder.ledger))))
        return
    state, told = folder.state(), events.history(events.read(folder.events))
    print(f"{folder.name}: {_standing(state, _total(told))}")
    if state.error:
        print(state.error)
    for title, lines in _chapters(folder, told):
        if lines:
            print(f"\n{title}")
            print("\n".join(f"  {line}" for line in lines))


def stop(run: str, /, *, runs: Path = RUNS) -> None:
    """Ask a run to stop after its next step; it saves first and can go on later.

    Parameters
    ----------
    run
        A run folder, or the name of a run in the folder of runs.
    runs
        The folder of runs.
    """
    _ask(run, runs, "stop")


def save(run: str, /, *, runs: Path = RUNS) -> None:
    """Ask a run to save after its next step.

    Parameters
    ----------
    run
        A run folder, or the name of a run in the folder of runs.
    runs
        The folder of runs.
    """
    _ask(run, runs, "save")


def preview(run: str, /, *, runs: Path = RUNS) -> None:
    """Ask a run to draw its previews after its next step.

    Parameters
    ----------
    run
        A run folder, or the name of a run in the folder of runs.
    runs
        The folder of runs.
    """
    _ask(run, runs, "preview")


def found(run: str, runs: Path) -> RunFolder:
    """The run of this path or name."""
    for path in (Path(run), runs / run):
        if (path / "config.toml").is_file():
            return RunFolder.open(path)
    names = [each.path.name for each in runs_in(runs)]
    near = nearest(run, names)
    fix = f"did you mean {near}?" if near else f"`impasto runs --runs {runs}` lists them"
    raise ConfigError(Problem("E-CFG-034", f"there is no run {run}, here or in {runs.absolute()}", "command line", fix))


def _ask(run: str, runs: Path, request: control.Request) -> None:
    folder = found(run, runs)
    state = folder.state()
    if state.stage != "running":
        what = f"{folder.name} is not running: it is {state.stage}"
        fix = f"`impasto resume {run}`" if state.stage in ("interrupted", "failed", "dropped") else "see `impasto runs`"
        raise ConfigError(Problem("E-CFG-034", what, "command line", fix))
    control.ask(folder, request)
    print(f"{folder.name} was asked to {request}; it does so after its next step")


@dataclass(frozen=True)
class _Glance:
    """The first and the last events: enough for a line in a table, however long the run."""

    total: int
    loss: float | None


def _glance(run: RunFolder) -> _Glance:
    try:
        with run.events.open("rb") as file:
            first = file.read(_ENDS)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return _Glance(0, None)
    begun = [event for line in first.splitlines() if (event := events.parse(line))]
    last = events.tail(run.events, max(0, size - _ENDS))[0]
    losses = [event.loss for event in last if isinstance(event, Step)]
    return _Glance(_total([*begun, *last]), losses[-1] if losses else None)


def _row(run: RunFolder) -> list[str]:
    state, glance = run.state(), _glance(run)
    steps = f"{state.step}/{glance.total}" if glance.total else str(state.step)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(_touched(run)))
    return [run.name, state.stage, steps, number(glance.loss), when, run.final.name if run.final.is_file() else ""]


def _touched(run: RunFolder) -> float:
    path = run.events if run.events.is_file() else run.config
    return path.stat().st_mtime if path.is_file() else 0.0


def _standing(state: State, total: int) -> str:
    words = f"{state.stage}, step {state.step}" + (f" of {total}" if total else "")
    words += (
        f", can go on from step {state.saved}"
        if state.saved and state.stage in ("interrupted", "failed", "dropped")
        else ""
    )
    return words + (f" ({state.holder})" if state.holder else "")


def _total(told: Sequence[events.Event]) -> int:
    return next((event.steps for event in reversed(told) if isinstance(event, Started)), 0)


def _chapters(run: RunFolder, told: Sequence[events.Event]) -> list[tuple[str, list[str]]]:
    similarity = run.record().get("similarity")
    return [
        ("settings that differ from the defaults", _changed(run)),
        ("last losses", [f"step {each.step}: {number(each.loss)}" for each in told if isinstance(each, Step)][-5:]),
        ("time", list(_times([each for each in told if isinstance(each, Spent)]))),
        ("validation", validation(list(events.measured(told).values()))),
        ("pictures to look at", _conspicuous(ledgers.read(run.ledger))),
        ("pick", [line for each in told if isinstance(each, Picked) for line in picked(each).splitlines()[1:]]),
        ("files", [f"{path} ({amount(path.stat().st_size)})" for path in _adapter_files(run)]),
        ("previews", [f"step {each.step}: {each.file}" for each in told if isinstance(each, Preview)][-8:]),
        ("proof", [_proven(each) for each in told if isinstance(each, Proven)][-3:]),
        ("similarity", _measured(similarity) if isinstance(similarity, Mapping) else []),
        ("warnings", [each.text for each in told if isinstance(each, Warned)][-5:]),
        ("last save", [f"step {each.step}" for each in told if isinstance(each, Saved)][-1:]),
    ]


def _changed(run: RunFolder) -> list[str]:
    try:
        config = load(run.config)
    except UserError as error:
        return [str(problem) for problem in error.problems]
    changed = [(key, new) for key, _, new in differences(RunConfig(), config) if new is not None]
    return [f"{key} = {shown(new)}" for key, new in changed if not _is_default(key, new)]


def _times(told: Sequence[Spent]) -> Iterator[str]:
    """Where the time of all processes of a run went, and how long a step takes."""
    if not told:
        return
    before, since = Counter[str](), Counter[str]()
    for each in told:
        (since if each.steps else before).update({part: round(1e6 * some) for part, some in each.parts.items()})
    yield f"before the first step: {seconds_of({part: some / 1e6 for part, some in before.items()})}"
    if since:
        yield f"then: {shares(since)}"
    if (last := next((each for each in reversed(told) if each.pace), None)) is not None and last.pace:
        usual = f", {last.expected:.3g} s in earlier runs of this kind on this machine" if last.expected else ""
        yield f"a step: {last.pace:.3g} s of late{usual}"


def _is_default(key: str, value: object) -> bool:
    """Whether a setting in a list has its default: the default list is empty, so all of it differs."""
    parts = tuple(int(part) if part.isdecimal() else part for part in key.split("."))
    return any(setting.default == value for setting in fields.at(RunConfig, parts))


def _adapter_files(run: RunFolder) -> list[Path]:
    return [*run.adapters(), *([run.final] if run.final.is_file() else [])]


def validation(told: Sequence[Validated]) -> list[str]:
    """A table of what was measured: a dozen of the steps, the lowest among them marked."""
    if not told:
        return []
    best = min((each.loss for each in told if each.step and each.loss is not None), default=None)
    shown = [each for at, each in enumerate(told) if not (len(told) - 1 - at) % (1 + len(told) // 12)]
    shown = [each for each in told if each in shown or (each.step and best is not None and each.loss == best)]
    levels = list(dict.fromkeys(level for each in told for level in (each.losses or each.training)))
    held = any(each.losses for each in told)
    head = ["step", "held out", "training", "gap", *(f"t={level}" for level in levels), ""]
    rows = [
        [
            str(each.step),
            number(each.loss),
            number(each.training_loss),
            "" if each.gap is None else f"{each.gap:+.3g}",
            *(number((each.losses if held else each.training).get(level)) for level in levels),
            "lowest" if best is not None and each.step and each.loss == best else "",
        ]
        for each in shown
    ]
    return columns(head, rows).splitlines()


def booked(rows: Sequence[Row]) -> list[str]:
    """The ledger as a table, the most costly picture first."""
    if not rows:
        return ["nothing was put down yet: a run does so with each checkpoint"]
    lists = ledgers.listed(rows)
    told = [
        [
            row.name,
            str(row.count),
            *(number(value) for value in (row.early, row.late, row.trend)),
            ", ".join(_WORDS[name] for name, some in lists.items() if row in some),
        ]
        for row in rows
    ]
    head = ["picture", "looks", "first quarter", "second half", "trend", ""]
    return [*columns(head, told).splitlines(), "", "losses over the usual at the same noise levels; 1 is usual"]


def _conspicuous(rows: Sequence[Row]) -> list[str]:
    lists = {name: some for name, some in ledgers.listed(rows).items() if some and name != "stopped_teaching"}
    return [f"{_WORDS[name]}: {', '.join(row.name for row in some[:5])}" for name, some in lists.items()]


_WORDS = {
    "never_learned": "never learned",
    "out_of_place": "out of place",
    "dominates": "dominates",
    "stopped_teaching": "stopped teaching",
}


def _measured(similarity: Mapping[str, JSON]) -> list[str]:
    return [f"{name}: {number(value) if isinstance(value, float) else value}" for name, value in similarity.items()]


def _proven(event: Proven) -> str:
    return f"step {event.step}: {event.matched} of {event.expected} layers, difference {number(event.difference)}"
