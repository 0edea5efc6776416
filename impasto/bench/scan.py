"""How long it takes to look through a folder of pictures: for the first time, and once its pictures are known. No
torch is needed for it, nor by a plan."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from impasto.bench import ours
from impasto.bench.clock import Clock, Span
from impasto.bench.figures import Figure, Report, machine
from impasto.data.config import Data
from impasto.data.examples import scan

APART = 64
"""Pictures that differ; the rest are copies of them, each with a byte of its own at the end."""


@dataclass(frozen=True)
class Asked:
    """What is measured."""

    pictures: int = 10_000
    side: int = 512
    rounds: int = 3


def measured(asked: Asked, work: Path) -> Report:
    """Scan with nothing known, then again with all known."""
    folder = many(work / "many", asked.pictures, asked.side)
    data = Data.model_validate({"sets": [{"path": str(folder)}]})
    clock, memo = Clock(torch.device("cpu")), work / "memo.json"
    first: list[Span] = []
    again: list[Span] = []
    for _ in range(asked.rounds):
        memo.unlink(missing_ok=True)
        first.append(clock.timed(lambda: scan(data, memo=memo)))
        again.append(clock.timed(lambda: scan(data, memo=memo)))
    shutil.rmtree(folder)
    spans = {"nothing known": first, "all known": again}
    return Report(
        what="scan", machine=machine(torch.get_num_threads()), asked=vars(asked),
        figures=[
            *(Figure(name=name, unit="s", values=[each.wall for each in some]) for name, some in spans.items()),
            *(
                Figure(name=f"{name}, processor", unit="s", values=[each.processor for each in some])
                for name, some in spans.items()
            ),
        ],
    )  # fmt: skip


def many(folder: Path, count: int, side: int) -> Path:
    """So many pictures with captions. No two have the same bytes, or they would be called twins."""
    ours.pictures(folder, min(count, APART), side, jpeg=True)
    for at in range(APART, count):
        own = (folder / f"{at % APART:05}.jpg").read_bytes() + at.to_bytes(4, "little")
        (folder / f"{at:05}.jpg").write_bytes(own)
        (folder / f"{at:05}.txt").write_text(f"a soft picture, number {at}", "utf-8")
    if hasattr(os, "sync"):
        os.sync()  # what is still being written would be counted
    return folder
