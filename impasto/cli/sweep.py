"""Sweeps from the command line: many runs that differ in a few settings, as one."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from cyclopts import App

from impasto import files
from impasto.cli import queue as lining
from impasto.cli.display import Lines, watching
from impasto.cli.ranks import refuse_ranks
from impasto.errors import ConfigError, Problem
from impasto.events import Event, Noted, Warned
from impasto.settings.toml import literal
from impasto.sweeps import expand, queued, search
from impasto.sweeps import report as reporting
from impasto.sweeps.config import Method
from impasto.sweeps.expand import Plan, Run
from impasto.sweeps.folder import SweepFolder

Show = Callable[[Path, Event], None]

app = App(name="sweep", help="Train many runs that differ in a few settings, and tell which is best and why.")


@app.default
def sweep(
    *what: str,
    pick: int | None = None,
    seeds: int | None = None,
    method: Method | None = None,
    halving: bool = False,
    dry: bool = False,
    plain: bool = False,
    runs: Path | None = None,
    strict: bool = False,
    on: str = "here",
    queue: Path | None = None,
) -> None:
    """Train many runs that differ in a few settings; or go on with a sweep, by naming its folder.

    Parameters
    ----------
    what
        A file of settings or folders of pictures; settings for all runs as `train.steps=500`; and what varies, as
        `adapter.rank=4,16,64` or `optim.learning_rate=5e-5..5e-4:log:4`. Or the folder of a sweep, alone.
    pick
        How many combinations are tried.
    seeds
        Runs of each combination, with seeds that follow each other.
    method
        How combinations are chosen.
    halving
        Stop the worse variants early ([sweep.halving] says when).
    dry
        List the runs and what they take; train nothing.
    plain
        Print plain lines instead of a live display.
    runs
        The folder for the sweep's folder, in place of output.folder.
    strict
        Do not train if there is any advice on any run.
    on
        Where it trains: `here`, in this process; `queue`, each base a job that the workers of the local queue take;
        `ray` or `ray://host:port`, each base a task on a Ray cluster.
    queue
        The file of the line, in place of the usual one.
    """
    refuse_ranks()
    train = _trainer(on, queue, strict=strict, plain=plain)
    options = {"pick": pick, "seeds": seeds, "method": method}
    given = [f"sweep.{name}={literal(value)}" for name, value in options.items() if value is not None]
    given += ["sweep.halving.eta=2"] if halving and not any(each.startswith("sweep.halving.") for each in what) else []
    if len(what) == 1 and (Path(what[0]) / "sweep.toml").is_file():
        if given or runs:
            fix = f"`impasto sweep {what[0]}` goes on with what it was begun with"
            raise ConfigError(Problem("E-CLI-001", "a sweep that was begun cannot be changed", "command line", fix))
        folder = SweepFolder.open(Path(what[0]))
        plan = folder.plan()
        found = expand.runs(plan)
    else:
        plan = _asked_for([*what, *given], runs)
        found = expand.runs(plan)
        folder = None
    if dry:
        print("\n".join(_dry(plan, found)))
        return
    folder = folder or SweepFolder.create(plan, found)
    search.train_all(folder, train)
    made = reporting.report(folder)
    text = "\n".join(made.lines())
    files.write(folder.path / "report.txt", text.encode() + b"\n")
    files.write(folder.path / "report.json", made.json().encode() + b"\n")
    print(text)
    print(_next(made, folder))


Train = Callable[[SweepFolder], None]
"""Trains all that is left to do of a sweep."""


def _trainer(on: str, queue: Path | None, *, strict: bool, plain: bool) -> Train:
    """How a sweep is trained, by the place."""
    match on:
        case "here":
            return partial(_here, strict=strict, plain=plain)
        case "queue":
            return partial(_on_queue, queue)
        case _ if on == "ray" or on.startswith("ray://"):
            return partial(_on_ray, None if on == "ray" else on, strict=strict)
        case _:
            fix = "here, queue, ray, ray://host:port"
            raise ConfigError(Problem("E-CLI-001", f"--on {on}: there is no such place", "command line", fix))


def _here(folder: SweepFolder, *, strict: bool, plain: bool) -> None:
    from impasto.engine.sweeping import sweep as train

    with watching(len(folder.state().runs), sys.stderr, plain=plain) as show:
        train(folder, strict=strict, show=_once(show))


def _on_queue(path: Path | None, folder: SweepFolder) -> None:
    line = lining.opened(path)
    if not lining.served(line):
        print("no worker takes jobs now: start one for each device with `impasto worker`", file=sys.stderr)
    print("Ctrl-C ends the waiting alone: the jobs go on, and the same command waits for them again", file=sys.stderr)
    queued.train(folder, line, lining.say)


def _on_ray(address: str | None, folder: SweepFolder, *, strict: bool) -> None:
    from impasto.engine import on_ray

    on_ray.train(folder, address, lining.say, strict=strict, shows=_lines)


def _lines() -> Show:
    """Plain lines, which Ray brings back from wherever they are printed."""
    return _once(Lines(sys.stderr).show)


def _next(made: reporting.Report, folder: SweepFolder) -> str:
    """Pictures say more than a loss: how the best few are drawn side by side."""
    best = [str(folder.run(row.name).path) for row in made.rows if row.file][:3]
    if not best:
        return str(folder.path)
    return f"look at them: impasto compare {shlex.join(best)} --out {shlex.quote(str(folder.path / 'compare'))}"


@app.command
def report(sweep: Path, /, *, json: bool = False) -> None:
    """Tell what a sweep found: its runs by their loss, what each setting did, which one to take.

    Parameters
    ----------
    sweep
        The sweep's folder. It may still be training.
    json
        Print everything as one JSON object.
    """
    made = reporting.report(SweepFolder.open(sweep))
    print(made.json() if json else "\n".join(made.lines()))


def _once(show: Show) -> Show:
    """Remarks and warnings that runs have in common are shown for the first of them alone."""
    told: set[str] = set()

    def shown(folder: Path, event: Event) -> None:
        if isinstance(event, Noted | Warned):
            if event.text in told:
                return
            told.add(event.text)
        show(folder, event)

    return shown


def _asked_for(what: Sequence[str], runs: Path | None) -> Plan:
    from impasto.cli.training import asked_for

    axes = [each for each in what if _is_setting(each) and expand.is_swept(each)]
    asked = asked_for([each for each in what if each not in axes], runs)
    if len(asked) > 1:
        fix = "name one: what differs stands in [sweep.axes], or behind it as adapter.rank=4,16"
        raise ConfigError(Problem("E-CLI-001", f"{len(asked)} files of settings", "command line", fix))
    file, settings = asked[0]
    return expand.read(file, [*settings, *axes])


def _is_setting(text: str) -> bool:
    return re.match(r"[A-Za-z_][\w.-]*=", text) is not None and not Path(text).exists()


def _dry(plan: Plan, found: Sequence[Run]) -> list[str]:
    from impasto.store import Store, default_root
    from impasto.sweeps.outlook import lines

    return list(lines(plan, found, Store(default_root(os.environ))))
