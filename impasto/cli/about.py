"""Beginning and finding out: a first file of settings, what a setting means, whether the machine is ready."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from impasto import __version__, files
from impasto.adapters.config import Lora
from impasto.cli import doctor as diagnosis
from impasto.cli.display import watching
from impasto.cli.help import about
from impasto.config import RunConfig, json_schema
from impasto.errors import ConfigError, Problem
from impasto.settings.toml import literal
from impasto.sweeps.config import WholeFile


def new(file: Path = Path("impasto.toml"), /, *, data: Path | None = None) -> None:
    """Write a file of settings to start from.

    Parameters
    ----------
    file
        The file to write; never one that exists.
    data
        The folder of pictures to learn from.
    """
    if os.path.lexists(file):
        fix = f"choose another name: `impasto new {file.stem}-2.toml`"
        raise ConfigError(Problem("E-CFG-033", f"{file.absolute()} exists already", "command line", fix))
    if not file.absolute().parent.is_dir():
        what = f"there is no folder {file.absolute().parent}"
        raise ConfigError(Problem("E-CFG-033", what, "command line", "make it first"))
    files.write(file, starter(_beside(data, file) if data else "pictures").encode())
    print(f"wrote {file}; next: `impasto train {file}`")


def starter(pictures: str) -> str:
    """A small file of settings with what people change first."""
    usual = RunConfig()
    return f"""\
# Settings of a run: `impasto train` reads this file. `impasto explain` lists all settings; those that are not here
# have their defaults.

name = "my-lora"

# The base model: "pocket" comes with impasto; else a folder in diffusers' layout.
[model]
path = {literal(usual.model.path)}

# A folder of pictures, each with its caption in a .txt file of the same name. More folders: more of these blocks.
[[data.sets]]
path = {literal(pictures)}

[adapter]
rank = {literal(Lora().rank)}

[optim]
learning_rate = {literal(usual.optim.learning_rate)}

[train]
epochs = {literal(usual.train.epochs)}
# steps = 1000          # in place of epochs

[save]
every_epochs = 1

[preview]
every_epochs = 1

[[preview.prompts]]
text = "a picture"
"""


def explain(setting: str | None = None, /) -> None:
    """Tell what a section or a setting is for, and what it may hold.

    Parameters
    ----------
    setting
        A section or a setting by its dotted name, as optim or optim.learning_rate; all sections if not given.
    """
    print("\n".join(about(setting)))


def schema() -> None:
    """Print the JSON schema of the settings, for editors."""
    print(json.dumps(json_schema(WholeFile), indent=2, ensure_ascii=False))


def doctor() -> None:
    """Tell whether this machine is ready: versions, device, disk, processor, the built-in model."""
    print("\n".join(diagnosis.lines()))


def quickstart(*, folder: Path = Path("quickstart"), seed: int = 0, plain: bool = False) -> None:
    """Train a first small adapter on the built-in model and draw with it: no download, no GPU.

    Parameters
    ----------
    folder
        Where everything is written.
    seed
        Decides every random choice, in a folder that is new.
    plain
        Print plain lines instead of a live display.
    """
    from impasto.engine import first
    from impasto.engine import quickstart as walk

    config = first.settings(folder, seed=seed)
    with watching(1, sys.stderr, plain=plain) as show:
        measured = walk.quickstart(folder, config, show=show)
    print(walk.closing(folder, config, measured, command=_called()))


def version() -> None:
    """Print the version of impasto."""
    print(__version__)


def _called() -> str:
    """How this command is called from here: not every environment is on the path."""
    if shutil.which("impasto"):
        return "impasto"
    program = Path(sys.argv[0])
    called = [str(program)] if program.name == "impasto" else [sys.executable, "-m", "impasto"]
    return shlex.join(called)


def _beside(data: Path, file: Path) -> str:
    """The folder as the file will name it: relative paths in a file start at its own folder."""
    whole = Path(os.path.abspath(data.expanduser()))
    above = Path(os.path.abspath(file)).parent
    return whole.relative_to(above).as_posix() if whole.is_relative_to(above) else str(whole)
