"""Lanes: which devices this machine trains on, as far as it can be told without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from impasto.errors import ConfigError, Problem

LANE = re.compile(r"any|cpu|mps|(cuda|xpu):\d{1,3}")


def checked(text: str) -> str:
    """A lane's name. Raises ConfigError for a word that is none."""
    if not LANE.fullmatch(text):
        raise ConfigError(Problem("E-CLI-001", f"{text!r} is no lane", "command line", "cpu, cuda:0, cuda:1 ..."))
    return text


def devices(environ: Mapping[str, str], system: Path = Path("/")) -> list[str]:
    """The lanes of this machine: one for each GPU that the driver's files tell of and that programs here may see; else
    the CPU."""
    count = sum(1 for each in _names(system / "dev") if re.fullmatch(r"nvidia\d+", each))
    if not count and (system / "proc/driver/nvidia/version").exists():
        count = 1
    if (seen := environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        count = min(count, len([each for each in seen.split(",") if each.strip() not in ("", "-1")]))
    return [f"cuda:{number}" for number in range(count)] or ["cpu"]


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
