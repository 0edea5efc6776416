"""Which of the processes that train together this one is. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from impasto.errors import ConfigError, Problem


@dataclass(frozen=True)
class Place:
    """One rank among those that train together, as torchrun and `--nproc` tell it."""

    rank: int
    size: int
    local_rank: int
    """Its number on its machine: which GPU is its own."""

    local_size: int
    host: str
    """Where rank 0 is met."""

    port: int
    met: bool = False
    """Whether somebody else (torchrun) keeps the meeting point; else rank 0 does."""

    attempt: str = "0"
    """Which start of these ranks it is, where torchrun starts them again."""

    parent: int | None = None
    """The process that started this one and without which it has to stop."""


LAUNCHER = "IMPASTO_LAUNCHER"
"""The variable that tells a rank who started it."""


def place_of(environment: Mapping[str, str], parent: int) -> Place | None:
    """The place that the variables of torchrun give; None where this process trains alone.

    Raises ConfigError when only some of them are there.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    given = [name for name in names if environment.get(name)]
    if "RANK" not in given or "WORLD_SIZE" not in given or environment["WORLD_SIZE"] == "1":
        return None
    try:
        if len(given) < len(names):
            raise ValueError
        values = {name: environment[name] for name in names}
        rank, size = int(values["RANK"]), int(values["WORLD_SIZE"])
        local, port = int(values["LOCAL_RANK"]), int(values["MASTER_PORT"])
        if not (0 <= rank < size and local >= 0 and 0 < port < 65536):
            raise ValueError
    except ValueError:
        what = f"these variables say which rank this is, and do not fit together: {', '.join(given)}"
        fix = "start the ranks by `impasto train --nproc N` or by torchrun; or unset RANK and WORLD_SIZE to train alone"
        raise ConfigError(Problem("E-RNK-001", what, "environment", fix)) from None
    return Place(
        rank, size, local, int(environment.get("LOCAL_WORLD_SIZE") or size), values["MASTER_ADDR"], port,
        met=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
        parent=parent if environment.get(LAUNCHER) == str(parent) else None,
    )  # fmt: skip
