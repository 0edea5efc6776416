"""From nothing to the first step: with empty caches and with full ones, beside what the imports alone take."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from impasto import config as settings
from impasto.bench import child, ours
from impasto.bench.figures import Figure, Report, machine

IMPORTS = """
import json, time
begun = time.time()
import torch
from impasto.families import detect, loading
from impasto.families.config import Model
loading.kind_of("unet", detect.look(Model(path=%r)).configs["unet"])
print(json.dumps([time.time() - begun, time.process_time()]))
"""
"""A process that imports torch and the class of the denoiser, and nothing else of a base."""


@dataclass(frozen=True)
class Asked:
    """What is measured."""

    rounds: int = 3
    base: str = "pocket"
    resolution: int = 64
    pictures: int = 16
    threads: int = 0
    device: str = "auto"


def measured(asked: Asked, work: Path) -> Report:
    """In turns: the imports, a run with nothing kept, the same run with everything kept."""
    folder = ours.pictures(work / "pictures", asked.pictures, asked.resolution)
    config = ours.settings(
        folder, name="start", model={"path": asked.base}, device=ours.device(asked.device, asked.threads),
        data={"resolution": asked.resolution}, adapter={"targets": {"text_encoder": False}}, train={"steps": 2},
    )  # fmt: skip
    path = work / "start.toml"
    path.write_text(settings.dump(config), "utf-8")
    imports: list[tuple[float, float]] = []
    runs: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": []}
    for at in range(asked.rounds):
        imports.append(_imports(asked.base, asked.threads))
        for some in runs.values():
            some.append(child.ran([path], work / f"store-{at}", threads=asked.threads))
        assert not any(mark.startswith("encode") for mark in runs["warm"][-1]["marks"]), "a warm run encodes nothing"
    first = runs["warm"][0]
    return Report(
        what="start", machine=machine(first["threads"], first["device"]), asked=vars(asked),
        figures=[*_figures("", 0, imports, runs), *_figures(", processor", 1, imports, runs)],
        notes=["the encoders' classes are imported by every run; their weights are read by a cold one only"],
    )  # fmt: skip


def _figures(
    kind: str, at: int, imports: list[tuple[float, float]], runs: dict[str, list[dict[str, Any]]]
) -> list[Figure]:
    """By the clock (0) or the processor (1): the whole, what is beyond the imports, and the parts of a warm start."""
    alone = [each[at] for each in imports]
    found = [Figure(name=f"torch and the denoiser's class{kind}", unit="s", values=alone)]
    for name, some in runs.items():
        whole = [run["marks"]["first step"][at] for run in some]
        found.append(Figure(name=f"{name}, to the first step{kind}", unit="s", values=whole))
        beyond = [each - median(alone) for each in whole]
        found.append(Figure(name=f"{name}, beyond the imports{kind}", unit="s", values=beyond))
    marks = list(runs["warm"][0]["marks"])
    for before, mark in zip(["", *marks], marks[: marks.index("first step") + 1], strict=False):
        part = [run["marks"][mark][at] - (run["marks"][before][at] if before else 0.0) for run in runs["warm"]]
        found.append(Figure(name=f"warm, until {mark}{kind}", unit="s", values=part))
    return found


def _imports(base: str, threads: int) -> tuple[float, float]:
    line = [sys.executable, "-W", "ignore", "-c", IMPORTS % base]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=child.environment(threads))
    wall, processor = json.loads(done.stdout.splitlines()[-1])
    return wall, processor
