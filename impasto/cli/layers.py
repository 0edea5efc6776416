"""Which layers a run's settings adapt, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from impasto import files
from impasto.cli.text import columns
from impasto.config import load
from impasto.errors import ConfigError, Problem


def layers(*what: str, json_: Annotated[bool, Parameter(name="--json")] = False, picture: Path | None = None) -> None:
    """Show which layers get an adapter, in which block, how large and how fast they learn. Reads no weights.

    Parameters
    ----------
    what
        A file of settings, and settings as `adapter.rank=8` that are laid over it.
    json_
        Print every layer as JSON.
    picture
        Also draw the blocks, coloured by rank and by rate, into this PNG file.
    """
    named = [each for each in what if "=" not in each]
    if len(named) > 1:
        raise ConfigError(Problem("E-CLI-001", f"{len(named)} files of settings", "command line", "name one"))
    config = load(named[0] if named else None, [each for each in what if "=" in each])
    from impasto.engine import layers as looked
    from impasto.engine import plots

    rows = looked.look(config)
    if picture is not None:
        files.write(picture, plots.blocks(rows, title=config.name))
    if json_:
        print(json.dumps(looked.described(rows), indent=1))
        return
    print(columns(looked.HEAD, looked.table(rows)))
    print(f"{len(rows)} layers")
