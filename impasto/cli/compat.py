"""Coming from another trainer, and going back: settings as other programs write them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from impasto import checks, config, files
from impasto.errors import ConfigError, Problem
from impasto.settings.source import Source


def import_(
    *what: Annotated[str, Parameter(allow_leading_hyphen=False)],
    out: Path | None = None,
    exact: bool = False,
    strict: bool = False,
    json_: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Make settings of those of kohya_ss, sd-scripts, OneTrainer or ai-toolkit; tell what becomes of every value.

    Parameters
    ----------
    what
        The file, or -- and a whole command line.
    out
        The file of settings to write; never one that exists. If not given, it is printed, and the report goes to
        the other stream.
    exact
        Where impasto can do both: as sd-scripts does, in place of what is better.
    strict
        End with exit code 2 if anything is not carried over.
    json_
        Print the report as JSON, with the settings in it.
    """
    from impasto.compat import reading, translate, written

    if not what:
        raise ConfigError(Problem("E-CLI-001", "there is nothing to import", "command line", "name a file"))
    if out is not None and os.path.lexists(out):
        raise ConfigError(Problem("E-CFG-033", f"{out.absolute()} exists already", "command line", "choose another"))
    alone = len(what) == 1 and "train_network" not in what[0]
    recipe = reading.read(Path(what[0])) if alone or Path(what[0]).is_file() else reading.of_words(
        what, "the command line", Path.cwd())  # fmt: skip
    made = translate.translate(recipe, exact=exact)
    text = written.document(made)
    if out is not None:
        files.write(out, text.encode())
    folder = out.absolute().parent if out is not None else Path.cwd()
    left = _left(made.values, folder)
    if json_:
        print(json.dumps({**written.described(made), "to_see_to": [str(each) for each in left]}, indent=1))
    else:
        report = sys.stdout if out is not None else sys.stderr
        if out is None:
            print(text, end="", flush=True)
        print(written.report(made), file=report)
        if left:
            print("\nto see to on this machine:", *(f"  {each}" for each in left), sep="\n", file=report)
        if out is not None:
            print(f"\nwrote {out}; next: `impasto train {out}`")
    if strict and (lost := made.of("lost", "unknown")):
        raise ConfigError(
            *(Problem("E-IMP-005", each.reason or "unknown", each.name, "see the report") for each in lost)
        )


def export_kohya(
    file: Path,
    /,
    *,
    as_: Annotated[Literal["gui", "toml", "command"], Parameter(name="--as")] = "toml",
    out: Path | None = None,
) -> None:
    """Write settings as kohya_ss or sd-scripts reads them, and list what has no place there.

    Parameters
    ----------
    file
        A file of settings.
    as_
        gui: a file that kohya_ss opens; toml: arguments for --config_file; command: a command line.
    out
        The file to write; never one that exists. If not given, it is printed.
    """
    from impasto.compat import export

    if out is not None and os.path.lexists(out):
        raise ConfigError(Problem("E-CFG-033", f"{out.absolute()} exists already", "command line", "choose another"))
    made = export.export(config.load(file))
    stem = out.stem if out is not None else "kohya"
    beside = {f"{stem}-dataset.toml": made.dataset, f"{stem}-prompts.txt": made.prompts if as_ != "gui" else ""}
    if out is None:
        print(made.write(as_), end="")
        for name, text in beside.items():
            if text:
                print(f"\n# {name}:\n{text}", end="")
    else:
        for name, text in {out.name: made.write(as_, stem), **beside}.items():
            if text:
                files.write(out.with_name(name), text.encode())
                print(f"wrote {out.with_name(name)}")
    for line in made.lost:
        print(f"no place there: {line}", file=sys.stderr)


def _left(values: dict[str, object], folder: Path) -> list[Problem]:
    """What the settings lack on this machine: pictures, models, packages."""
    import copy

    try:
        whole, source = config.build(copy.deepcopy(values), (), Source(), folder)
    except ConfigError as error:
        return list(error.problems)
    return checks.check(whole, source)
