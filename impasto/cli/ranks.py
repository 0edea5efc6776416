"""What several ranks are not for."""

from __future__ import annotations

import os

from impasto.engine.place import place_of
from impasto.errors import ConfigError, Problem


def refuse_ranks(nproc: int = 1) -> None:
    """Raise ConfigError for what several ranks cannot do together."""
    if nproc > 1 or place_of(os.environ, os.getppid()) is not None:
        what = "the runs of a sweep are trained by one process for each group, not by several ranks together"
        fix = "leave --nproc and torchrun away; `impasto sweep` with `--on queue` uses every GPU, a group on each"
        raise ConfigError(Problem("E-RNK-009", what, "command line", fix))
