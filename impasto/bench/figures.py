"""What was measured: figures with their spread, on a machine that is named. No torch."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from impasto import __version__, files
from impasto.errors import ConfigError, Problem
from impasto.schema import Section

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "numpy", "pillow")


class Machine(Section):
    """Where it was measured."""

    processor: str
    cores: int
    threads: int
    """That torch was given."""
    device: str = "cpu"
    load: float | None = None
    """Programs that wanted a core when the measuring began, over the last minute; None where the system does not say.
    """
    system: str = Field(default_factory=lambda: f"{platform.system()} {platform.machine()}")
    python: str = Field(default_factory=platform.python_version)
    impasto: str = __version__
    libraries: dict[str, str] = Field(default_factory=lambda: {name: metadata.version(name) for name in LIBRARIES})


class Figure(Section):
    """One thing that was measured, several times."""

    name: str
    unit: str
    values: Annotated[Sequence[float], Field(min_length=1)]
    better: Literal["less", "more", "neither"] = "less"

    @property
    def median(self) -> float:
        """What is said of it in one number."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between which half of the values lie."""
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def noise(self) -> float:
        """How far the middle half scatters, as a share of the median."""
        low, high = self.quartiles
        return (high - low) / abs(self.median) if self.median else 0.0


class Report(Section):
    """What a command measured."""

    version: Literal[1] = 1
    what: str
    """The command: `step`, `start` ..."""

    when: str = Field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M", time.gmtime()))
    machine: Machine
    asked: dict[str, str | int | float | bool]
    """What it was measured with."""

    figures: Sequence[Figure]
    notes: Sequence[str] = ()

    def __getitem__(self, name: str) -> Figure:
        return next(each for each in self.figures if each.name == name)


def machine(threads: int, device: str = "cpu") -> Machine:
    """This machine."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Machine(processor=_processor(), cores=os.cpu_count() or 1, threads=threads, device=device, load=load)


def write(path: Path, report: Report) -> None:
    """Keep a report."""
    files.write(path, report.model_dump_json(indent=1).encode() + b"\n")


def read(path: Path) -> Report:
    """A report that was kept. Raises ConfigError if it is none."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, json.JSONDecodeError) as error:
        what = f"this is no report of `impasto bench`: {str(error).splitlines()[0]}"
        raise ConfigError(Problem("E-CLI-001", what, str(path), "name a file that `impasto bench` wrote")) from None


def ratio(name: str, over: Sequence[float], under: Sequence[float], better: Literal["less", "more"]) -> Figure:
    """How often `under` goes into `over`, turn by turn: what the machine did meanwhile hit both."""
    return Figure(name=name, unit="x", values=[a / b for a, b in zip(over, under, strict=True)], better=better)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
