"""Beginning and finding out: a first file of settings, what a setting means, whether the machine is ready."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from impasto import __version__, files, presets
from impasto.adapters.config import Lora
from impasto.cli import doctor as diagnosis
from impasto.cli.display import watching
from impasto.cli.help import about
from impasto.config import RunConfig, json_schema
from impasto.errors import ConfigError, Problem
from impasto.settings import form
from impasto.settings.suggest import nearest
from impasto.settings.toml import literal
from impasto.sweeps.config import WholeFile


def new(file: Path = Path("impasto.toml"), /, *, data: Path | None = None, preset: str | None = None) -> None:
    """Write a file of settings to start from.

    Parameters
    ----------
    file
        The file to write; never one that exists.
    data
        The folder of pictures to learn from.
    preset
        Settings for a goal, a base and a card, each with its reason, as character-sdxl-12gb: character, style or
        concept; sd15, sdxl or flux; 8gb, 12gb or 24gb.
    """
    if os.path.lexists(file):
        fix = f"choose another name: `impasto new {file.stem}-2.toml`"
        raise ConfigError(Problem("E-CFG-033", f"{file.absolute()} exists already", "command line", fix))
    if not file.absolute().parent.is_dir():
        what = f"there is no folder {file.absolute().parent}"
        raise ConfigError(Problem("E-CFG-033", what, "command line", "make it first"))
    pictures = _beside(data, file) if data else "pictures"
    files.write(file, (starter(pictures) if preset is None else _of_preset(preset, pictures)).encode())
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


def _of_preset(name: str, pictures: str) -> str:
    """The settings of a preset, with the pictures in them."""
    found = presets.named(name)
    if found is None:
        near = nearest(name, [each.name for each in presets.every()], farthest=6) or presets.every()[0].name
        what = f"there is no preset {name!r}: a goal ({', '.join(presets.GOALS)}), a base ({', '.join(presets.BASES)}) "
        raise ConfigError(Problem("E-CLI-001", what + "and a card (8gb, 12gb, 24gb)", "--preset", f"--preset {near}"))
    return form.edited(found.toml, {**found.values, "name": "my-lora", "data.sets.0.path": pictures}, RunConfig)


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
