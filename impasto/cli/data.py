"""Looking at pictures and captions before they are trained on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cyclopts import App

from impasto.checks import check
from impasto.cli.plan import looking
from impasto.config import read
from impasto.errors import ConfigError, Problem
from impasto.store import Store, default_root

app = App(name="data", help="Look at pictures and captions as they are trained on.")


@app.command
def draw(*what: str, out: Path = Path("drawn"), epoch: int = 1, count: int = 40, only: str = "") -> None:
    """Draw pictures exactly as a run trains on them: cut, mirrored, coloured and masked by its own dice, each with the
    caption of that visit, and what of it the base does not read.

    Parameters
    ----------
    what
        A file of settings, and settings as `data.augment.flip=true` that are laid over it; or folders of pictures.
    out
        The folder to draw into; a new or an empty one. It gets sheets to look at, each picture by itself, and
        visits.jsonl with all that was chosen.
    epoch
        Which epoch, from 1: with other dice, the same pictures are cut and captions shuffled in another way.
    count
        Visits that are drawn, the first of the epoch. 0: all of them.
    only
        Draw visits of pictures whose path holds this text.
    """
    from impasto.cli.training import asked_for
    from impasto.preflight import drawn, plan, sheet

    runs = asked_for(what)
    if len(runs) > 1:
        fix = "name one: `impasto data draw my.toml`"
        raise ConfigError(Problem("E-CLI-001", f"{len(runs)} files of settings", "command line", fix))
    if count < 0:
        raise ConfigError(Problem("E-CLI-001", f"--count {count} is no number of visits", "command line", "--count 40"))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        fix = "choose a folder that is new: --out drawn-2"
        raise ConfigError(Problem("E-CFG-033", f"{out.absolute()} exists already", "command line --out", fix))
    config, source = read(*runs[0])
    if problems := check(config, source):
        raise ConfigError(*problems)
    card, feed = plan.looked(config, Store(default_root(os.environ)), looking if sys.stderr.isatty() else None)
    for dataset in config.data.sets:
        if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(dataset.path)):
            odd = f"{out.absolute()} is in the picture folder {dataset.path}, which is never written to"
            raise ConfigError(Problem("E-CFG-032", odd, "command line --out", "choose a folder outside of it"))
    found = drawn.visits(config, card, feed, epoch=epoch, count=count or None, only=only)
    made = sheet.write(found, out)
    if not made.visits:
        fix = "see `impasto plan` for what is trained on"
        raise ConfigError(Problem("E-CLI-001", f"no picture that is trained on holds {only!r}", "--only", fix))
    last = f" to sheet-{made.sheets}.png" if made.sheets > 1 else ""
    of = drawn.epochs(config, feed)
    print(f"drew {made.visits} visits of epoch {epoch} of {of}: {out / 'sheet-1.png'}{last}")
    if made.cut:
        print(f"{made.cut} captions are longer than what the base reads: `cut` in {out / sheet.LIST} has the rest")
