"""Sending the curves of a run that is over, or goes on, to other programs that show them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from impasto import events, files
from impasto.cli.runs import RUNS, found
from impasto.config import load
from impasto.errors import ConfigError, LockedError, Problem, UserError


def export(
    run: str,
    /,
    *,
    to: Literal["tensorboard", "wandb", "csv"],
    out: Path | None = None,
    project: str | None = None,
    name: str | None = None,
    runs: Path = RUNS,
) -> None:
    """Send a run's curves and previews to TensorBoard or Weights & Biases, or write its numbers as a table.

    Parameters
    ----------
    run
        A run folder, or the name of a run in the folder of runs.
    to
        tensorboard: files for TensorBoard; wandb: Weights & Biases, which needs the package wandb and a login with it;
        csv: a table with a row for each step. What is there already is not sent again.
    out
        For tensorboard the folder of logs, else as track.folder of the run; for csv the file, else metrics.csv in the
        run's folder.
    project
        For wandb: the project, in place of track.project of the run.
    name
        What the run is called there, in place of track.name of the run.
    runs
        The folder of runs.
    """
    from impasto.track import table, tracker
    from impasto.track.follow import write

    folder = found(run, runs)
    told = events.history(events.read(folder.events))
    if to == "csv":
        path = out or folder.path / "metrics.csv"
        files.write(path, table.table(told).encode())
        print(f"wrote {path}")
        return
    config = load(folder.config)
    if to == "wandb" and find_spec("wandb") is None:
        raise ConfigError(Problem("E-CFG-046", "wandb is not installed", "command line --to", "pip install wandb"))
    if to in config.track.to and folder.state().stage == "running":
        what = f"it is training, and sends its curves to {to} itself"
        raise LockedError(Problem("E-RUN-024", what, str(folder.path), "wait for its end"))
    given = {"folder": out and out.absolute(), "project": project, "name": name}
    track = config.track.model_copy(update={key: value for key, value in given.items() if value is not None})
    made = tracker(to, track, folder.path, config.name, config.model_dump(mode="json"))
    last = max((each.step for each in told if isinstance(each, events.Step)), default=0)
    try:
        count = write(made, told, folder.previews, made.begin(last))
        place = made.place
        made.close()
    except UserError:
        raise
    except Exception as error:  # a service, its package, a network: they raise anything
        what = " ".join(f"it cannot be sent to {to}: {type(error).__name__}: {error}".split())[:400]
        raise ConfigError(Problem("E-TRK-001", what, str(folder.path), "mend that, and export again")) from error
    print(f"sent {count} points: {place}" if count else f"nothing new to send: {place}")
