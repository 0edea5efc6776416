"""What a run will do and take, before it starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from impasto import files
from impasto.checks import check
from impasto.config import read
from impasto.errors import ConfigError, Problem
from impasto.store import Store, default_root


def plan(
    *what: str,
    json_: Annotated[bool, Parameter(name="--json")] = False,
    picture: Path | None = None,
    probe: bool = False,
    strict: bool = False,
    nproc: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=4096))] = 1,
) -> None:
    """Tell what a run will do and take, and what is probably not meant. Reads no weights.

    Parameters
    ----------
    what
        A file of settings, and settings as `adapter.rank=8` that are laid over it; or folders of pictures.
    json_
        Print everything as one JSON object.
    picture
        Also draw buckets, noise levels and learning rate into this PNG file.
    probe
        Measure memory and time: train two steps on the largest bucket and draw once, in a process of its own.
    strict
        End with exit code 2 if there is any advice.
    nproc
        So many processes are to share every step: what each of them takes.
    """
    from impasto.cli.training import asked_for
    from impasto.preflight import show
    from impasto.preflight.plan import plan as planned

    runs = asked_for(what)
    if len(runs) > 1:
        fix = "name one: `impasto plan my.toml`"
        raise ConfigError(Problem("E-CLI-001", f"{len(runs)} files of settings", "command line", fix))
    config, source = read(*runs[0])
    if problems := check(config, source):
        raise ConfigError(*problems)
    made = planned(config, Store(default_root(os.environ)), looking if sys.stderr.isatty() else None, ranks=nproc)
    if probe:
        from impasto.preflight.probe import probed

        made = probed(config, made)
    if picture is not None:
        from impasto.engine.outlook import outlook

        files.write(picture, outlook(config, total=made.steps.total).png(config.name, made.pictures.buckets))
    print(made.json() if json_ else "\n".join(show.lines(made)))
    if strict and made.advice:
        raise ConfigError(*made.advice)


def looking(done: int, total: int) -> None:
    """Say how far the look at the pictures is, on a terminal."""
    if done % max(1, total // 100) == 0 or done == total:
        print(f"\rlooking at pictures {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
