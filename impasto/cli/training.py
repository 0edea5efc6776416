"""Training from the command line: new runs, fleets and runs that go on."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import Parameter, validators

from impasto.checks import check, check_together, run_folder
from impasto.cli.display import watching
from impasto.cli.launch import launch
from impasto.cli.ranks import refuse_ranks
from impasto.cli.runs import found
from impasto.config import RunConfig, load, read
from impasto.engine.place import Place, place_of
from impasto.errors import ConfigError, Problem
from impasto.files import write
from impasto.runs.folder import RunFolder
from impasto.runs.group import GroupFolder
from impasto.settings.toml import literal
from impasto.sweeps.folder import SweepFolder

Allow = Annotated[list[str] | None, Parameter(name="--allow")]
Nproc = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=4096))]


def train(
    *what: str,
    allow: Allow = None,
    restart: bool = False,
    plain: bool = False,
    runs: Path | None = None,
    strict: bool = False,
    nproc: Nproc = 1,
) -> None:
    """Train runs; those whose folder exists go on where they were.

    Parameters
    ----------
    what
        Files of settings (several train side by side on one base), settings as `adapter.rank=8` that are laid over
        them, or just a folder of pictures.
    allow
        A changed setting, by its dotted name, that an existing run may go on with. May be repeated.
    restart
        Begin anew: an existing run folder is moved aside, not deleted.
    plain
        Print plain lines instead of a live display.
    runs
        The folder for run folders, in place of output.folder.
    strict
        Do not train if there is any advice (`impasto plan` shows it).
    nproc
        So many processes share every step of a run, one on each GPU. Under torchrun leave it away.
    """
    asked = asked_for(what, runs)
    if nproc > 1:
        _launch(nproc, asked, ["train", *what, *_again(allow, runs, restart=restart, plain=plain, strict=strict)])
    _train(asked, allow, restart=restart, plain=plain, strict=strict)


def asked_for(what: Sequence[str], runs: Path | None = None) -> list[tuple[str | None, list[str]]]:
    """The runs that a command line names: a file of settings or none, and what is laid over it."""
    files, pictures, settings = _sorted(what)
    if runs is not None:
        settings.append(f"output.folder={literal(str(runs))}")
    if pictures and files:
        fix = "name the pictures in the file, under [[data.sets]]"
        raise ConfigError(Problem("E-CLI-001", "files and folders of pictures together", "command line", fix))
    if pictures:
        settings = _for_pictures(pictures, settings)
    return [(file, settings) for file in files] or [(None, settings)]


def resume(*run: str, allow: Allow = None, plain: bool = False, runs: Path = Path("runs"), nproc: Nproc = 1) -> None:
    """Go on with runs from their last checkpoint, with the settings in their folders.

    Parameters
    ----------
    run
        Run folders, or names of runs in the folder of runs; and settings as `train.steps=2000` to change. Or a folder
        in a sweep's groups, alone: the runs of the sweep that share a base, or all of them.
    allow
        A changed setting, by its dotted name, that may differ from before. May be repeated.
    plain
        Print plain lines instead of a live display.
    runs
        The folder of runs.
    nproc
        So many processes share every step of a run, one on each GPU. It need not be as many as before.
    """
    settings = [each for each in run if is_setting(each)]
    names = [each for each in run if not is_setting(each)]
    if not names:
        raise ConfigError(Problem("E-CLI-001", "no run is named", "command line", "see `impasto runs`"))
    if len(run) == 1 and (group := GroupFolder(Path(run[0]).absolute())).is_there:
        refuse_ranks(nproc)
        _train_group(group, plain=plain)
        return
    asked = [(str(each.config), [*settings, *_moved(each)]) for each in (found(name, runs) for name in names)]
    if nproc > 1:
        _launch(nproc, asked, ["resume", *run, *_again(allow, runs, plain=plain)])
    _train(asked, allow, restart=False, plain=plain)


def _train_group(group: GroupFolder, *, plain: bool) -> None:
    from impasto.engine.sweeping import train_group, train_whole

    folder = SweepFolder.open(group.path.parent.parent)
    with watching(len(group.runs()), sys.stderr, plain=plain) as show:
        if group == folder.whole:
            train_whole(folder, show=show)
        else:
            train_group(folder, int(group.path.name), show=show)


def plot(*what: str, out: Path = Path("outlook.png")) -> None:
    """Draw what settings will do: the noise levels that are trained, what each counts, the learning rate.

    Parameters
    ----------
    what
        A file of settings, and settings as `objective.shift.kind=flux` that are laid over it.
    out
        The file to write: .png, or .json for the numbers.
    """
    named, pictures, settings = _sorted(what) if what else ([], [], [])
    if len(named) > 1 or pictures:
        fix = "name one file of settings: `impasto plot my.toml`"
        raise ConfigError(Problem("E-CLI-001", "more than one run would be drawn", "command line", fix))
    if out.suffix not in (".png", ".json"):
        fix = f"--out {out.stem or 'outlook'}.png"
        raise ConfigError(Problem("E-CLI-001", f"{out} is neither a .png nor a .json", "command line", fix))
    config = load(named[0] if named else None, settings)
    from impasto.engine.outlook import outlook

    found = outlook(config)
    write(out, found.json() if out.suffix == ".json" else found.png(config.name))
    print(f"wrote {out}")


def _moved(run: RunFolder) -> list[str]:
    """What makes a run go on in its own folder, even if that was moved or the current folder is another."""
    config, path = load(run.config), run.path.absolute()
    if run_folder(config) == path:
        return []
    settings = [f"output.folder={literal(str(path.parent))}"]
    return settings if config.name == path.name else [*settings, f"name={literal(path.name)}"]


def _train(
    asked: Sequence[tuple[str | None, Sequence[str]]],
    allow: Sequence[str] | None,
    *,
    restart: bool,
    plain: bool,
    strict: bool = False,
) -> None:
    place = place_of(os.environ, os.getppid())
    if place is not None:
        _train_as(place, asked, allow, restart=restart, plain=plain, strict=strict)
        return
    configs = loaded(asked)
    from impasto.engine.run import train as train_all

    with watching(len(configs), sys.stderr, plain=plain) as show:
        folders = train_all(configs, allow=frozenset(allow or ()), restart=restart, strict=strict, show=show)
    for folder in folders:
        print(folder)


def _train_as(
    place: Place, asked: Sequence[tuple[str | None, Sequence[str]]], allow: Sequence[str] | None, *,
    restart: bool, plain: bool, strict: bool,
) -> None:  # fmt: skip
    """Train as one of several ranks. Rank 0 alone shows anything."""
    configs = loaded(asked)
    from impasto.engine.run import train as train_all
    from impasto.engine.world import Ended, World

    try:
        world = World(place, min(each.device.rank_timeout for each in configs))
        with watching(len(configs), sys.stderr, plain=plain) if place.rank == 0 else nullcontext() as show:
            folders = train_all(
                configs, allow=frozenset(allow or ()), restart=restart, strict=strict, show=show, world=world
            )
    except Ended as ended:
        sys.exit(ended.code)
    for folder in folders:
        print(folder)


def _launch(nproc: int, asked: Sequence[tuple[str | None, Sequence[str]]], arguments: Sequence[str]) -> NoReturn:
    """Start so many ranks, wait for their end, and end like rank 0."""
    if place_of(os.environ, os.getppid()) is not None:
        what = "this process is one of several ranks already (torchrun started it), and --nproc would start more"
        raise ConfigError(Problem("E-RNK-002", what, "command line", "leave --nproc away"))
    loaded(asked)  # what is wrong with the settings is told once
    sys.exit(launch(nproc, arguments, sys.stderr))


def _again(allow: Sequence[str] | None, runs: Path | None, **flags: bool) -> list[str]:
    """The options of a command, for the ranks that it starts."""
    given = [part for name in allow or () for part in ("--allow", name)]
    given += ["--runs", str(runs)] if runs is not None else []
    return [*given, *(f"--{name}" for name, flag in flags.items() if flag)]


def loaded(asked: Sequence[tuple[str | None, Sequence[str]]]) -> list[RunConfig]:
    """All settings of all runs, or everything that is wrong with any of them."""
    configs: list[RunConfig] = []
    problems: list[Problem] = []
    for file, settings in asked:
        try:
            config, source = read(file, settings)
        except ConfigError as error:
            problems += error.problems
        else:
            configs.append(config)
            problems += check(config, source)
    problems += check_together(configs)
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return configs


def _sorted(what: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Files of settings, folders of pictures, settings."""
    files, pictures, settings, problems = [], [], [], []
    for each in what:
        path = Path(each)
        if path.is_dir():
            pictures.append(each)
            if (path / "events.jsonl").is_file():
                fix = f"`impasto resume {each}`, or name the folder of pictures"
                problems.append(Problem("E-CLI-001", f"{each} is the folder of a run", "command line", fix))
        elif path.is_file() or each.endswith(".toml"):
            files.append(each)
        elif is_setting(each):
            settings.append(each)
        else:
            what_is_wrong = f"{each!r} is neither a file, nor a folder of pictures, nor a setting like adapter.rank=8"
            problems.append(Problem("E-CLI-001", what_is_wrong, "command line", "check the path"))
    if not what:
        fix = "`impasto train my.toml`, `impasto train folder_of_pictures`, or `impasto new` for a file to start from"
        problems.append(Problem("E-CLI-001", "nothing to train is named", "command line", fix))
    if problems:
        raise ConfigError(*problems)
    return files, pictures, settings


def is_setting(text: str) -> bool:
    return re.match(r"[A-Za-z_][\w.-]*=", text) is not None and not Path(text).exists()


def _for_pictures(pictures: Sequence[str], settings: Sequence[str]) -> list[str]:
    sets = [f"data.sets.{number}.path={literal(each)}" for number, each in enumerate(pictures)]
    if any(each.startswith("name=") for each in settings):
        return [*sets, *settings]
    folder = Path(pictures[0]).resolve().name
    name = re.sub(r"^\d+_", "", re.sub(r'[/\\\x00-\x1f<>:"|?*]+', "-", folder)).strip(" .")[:100]
    return [*sets, *settings, f"name={literal(name or 'lora')}"]
