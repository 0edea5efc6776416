"""Runs made of runs: branches, reruns, archives."""

from __future__ import annotations

import sys
from pathlib import Path

from impasto.checks import run_folder
from impasto.cli.display import watching
from impasto.cli.runs import RUNS, found
from impasto.cli.text import amount
from impasto.config import RunConfig
from impasto.experiments import branch
from impasto.experiments.pack import pack as pack_into
from impasto.runs.folder import RunFolder
from impasto.runs.machine import record


def fork(run: str, /, *settings: str, at: int | None = None, plain: bool = False, runs: Path = RUNS) -> None:
    """Train on from a step of a run with other settings, in a folder of its own; the run stays as it is.

    Parameters
    ----------
    run
        A run folder, or the name of a run in the folder of runs.
    settings
        What is different from there on, as optim.learning_rate=5e-5. name= gives it a name.
    at
        The step of a checkpoint of the run. If not given: the newest.
    plain
        Print plain lines instead of a live display.
    runs
        The folder of runs.
    """
    config = branch.fork(found(run, runs), at, settings, record())
    print(_trained(config, plain=plain).path)


def rerun(run: str, /, *, plain: bool = False, runs: Path = RUNS) -> None:
    """Train a run once more from its beginning, and tell whether the same tensors come out, to the bit.

    Parameters
    ----------
    run
        A run folder, or the name of a run in the folder of runs.
    plain
        Print plain lines instead of a live display.
    runs
        The folder of runs.
    """
    before = found(run, runs)
    config, doubts = branch.again(before)
    for doubt in doubts:
        print(f"it may not come out the same: {doubt}", file=sys.stderr)
    after = _trained(config, plain=plain)
    print(after.path)
    if before.final.is_file() and branch.same_tensors(before.final, after.final):
        print(f"the same: every tensor of {after.final.name} is that of {before.final.name}, to the bit")
        return
    reasons = [*doubts, *branch.unlike(before.record(), after.record())]
    print(f"not the same as {before.final.name}" if before.final.is_file() else f"{before.name} never came to its end")
    for reason in reasons or ["nothing in the two records tells why: please report it"]:
        print(f"  {reason}")
    raise SystemExit(1)


def pack(run: str, /, *, out: Path | None = None, pictures: bool = False, runs: Path = RUNS) -> None:
    """Put a finished run into one zip archive to share: settings, record, events, previews, files; no paths.

    Parameters
    ----------
    run
        A run folder, or the name of a run in the folder of runs.
    out
        The archive. If not given: the run's name with .zip.
    pictures
        Its pictures and captions too: then it can be trained again anywhere.
    runs
        The folder of runs.
    """
    folder = found(run, runs)
    path = out or Path(f"{folder.name}.zip")
    names = pack_into(folder, path, pictures=pictures)
    print(f"{path}: {len(names)} files, {amount(path.stat().st_size)}")


def _trained(config: RunConfig, *, plain: bool) -> RunFolder:
    from impasto.engine.run import train

    with watching(1, sys.stderr, plain=plain) as show:
        train([config], show=show)
    return RunFolder.open(run_folder(config))
